"""The recent samples of one stream, in the order of their stamps. No interpolation, no decoding."""

from bisect import bisect_left, bisect_right
from threading import Lock
from typing import Any, NamedTuple


class Stamped(NamedTuple):
    """A sample and its time.

    Attributes:
        stamp_ns: When it was taken.
        payload: Whatever was pushed.
    """

    stamp_ns: int
    payload: Any


class SampleBuffer:
    """Keeps the samples of the last `span_ns` before the newest one.

    Stamps rise strictly. A sample that is not newer than the newest is refused: once a sample at or after tick t has
    come, nothing that comes later changes the value at t, so a live node that decided at that moment and a converter
    that reads the whole bag agree. The one exception is a step back of more than the span: no late sample, but a clock
    that was reset or an earlier stamp that was wrong; the buffer then starts anew.

    Thread-safe: one thread may push while others read; each holds the lock for a binary search at most.

    Args:
        span_ns: How long a sample is kept behind the newest.
    """

    def __init__(self, span_ns: int) -> None:
        if span_ns <= 0:
            raise ValueError(f"span_ns must be positive, got {span_ns}")
        self.span_ns = span_ns
        self._stamps: list[int] = []
        self._payloads: list[Any] = []
        self._lock = Lock()

    def push(self, stamp_ns: int, payload: Any) -> bool:
        """Store a sample; return whether it was taken (see the class for the rule)."""
        with self._lock:
            stamps, payloads = self._stamps, self._payloads
            if stamps and stamp_ns <= stamps[-1]:
                if stamp_ns >= stamps[-1] - self.span_ns:
                    return False
                stamps.clear()
                payloads.clear()
            stamps.append(stamp_ns)
            payloads.append(payload)
            expired = bisect_left(stamps, stamp_ns - self.span_ns)
            if expired:
                del stamps[:expired], payloads[:expired]
            return True

    def before(self, tick_ns: int) -> Stamped | None:
        """Return the newest sample that is not after the tick."""
        with self._lock:
            index = bisect_right(self._stamps, tick_ns) - 1
            return Stamped(self._stamps[index], self._payloads[index]) if index >= 0 else None

    def after(self, tick_ns: int) -> Stamped | None:
        """Return the oldest sample that is not before the tick."""
        with self._lock:
            index = bisect_left(self._stamps, tick_ns)
            return Stamped(self._stamps[index], self._payloads[index]) if index < len(self._stamps) else None

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample, None while there is none."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def discard_before(self, stamp_ns: int) -> None:
        """Forget the samples that are older than a stamp."""
        with self._lock:
            older = bisect_left(self._stamps, stamp_ns)
            del self._stamps[:older], self._payloads[:older]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._stamps.clear()
            self._payloads.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._stamps)
