"""How long after its stamp a stream's messages arrive, learnt from those that came. No clock, no ROS."""

from collections import deque

from vla_ros.data_types import NANOSECONDS

_MEMORY = 64
"""Messages of each publisher that are remembered: two seconds of a camera, an eighth of one of fast joints."""
_LEAST = 16
"""Before that many messages nothing is concluded."""
_MARGIN_NS = NANOSECONDS // 1000
"""By which a message may be later than all that are remembered."""
_MAX_PUBLISHERS = 64


class DelayMeter:
    """The delays of one topic, publisher by publisher: the slowest of them decides.

    A node that waits as long after a tick knows what belongs to it, but for a message that is later than all of the
    last ones; that one is late, and the next ticks wait for it.
    """

    def __init__(self) -> None:
        self._delays: dict[str, deque[int]] = {}
        self._longest_ns: int | None = None

    def add(self, delay_ns: int, publisher: str = "") -> None:
        """Note that a message came so long after its stamp.

        Args:
            delay_ns: Negative for a stamp that is ahead of its arrival.
            publisher: Whose, on a topic that several share.
        """
        own = self._delays.get(publisher)
        if own is None:
            if len(self._delays) >= _MAX_PUBLISHERS:
                return
            own = self._delays[publisher] = deque(maxlen=_MEMORY)
        own.append(delay_ns)
        self._longest_ns = None

    @property
    def longest_ns(self) -> int | None:
        """By when after its stamp a message is here, ns; None while too little is known."""
        if self._longest_ns is None and self._delays:
            delays = list(self._delays.values())
            if any(len(own) >= _LEAST for own in delays):
                self._longest_ns = max(0, *(max(own.copy()) for own in delays)) + _MARGIN_NS
        return self._longest_ns

    @property
    def median_ns(self) -> int | None:
        """Of the publisher that is slowest in the median, ns; None before the first message."""
        return max((sorted(own.copy())[len(own) // 2] for own in list(self._delays.values()) if own), default=None)

    def clear(self) -> None:
        """Forget everything: the clocks have changed."""
        self._delays, self._longest_ns = {}, None
