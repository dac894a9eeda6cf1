"""Whether a stream shows the same content under fresh stamps, as a camera that hangs does. No clock, no ROS."""

import numpy as np

from vla_ros.data_types import NANOSECONDS, Array


class FrozenWatch:
    """Compares the values that ticks use: equal to the last bit, sample after sample, is no sensor that measures."""

    def __init__(self) -> None:
        self._value: Array | None = None
        self._since_ns = self._newest_ns = 0

    def seen(self, stamp_ns: int, value: Array) -> None:
        """Note the value of a tick.

        Args:
            stamp_ns: Of the newest sample that it is made of; an older or equal one says nothing new.
            value: It; must not be changed later.
        """
        if stamp_ns == self._newest_ns and self._value is not None:
            return
        same = self._value is not None and stamp_ns > self._newest_ns and np.array_equal(self._value, value)
        if not same:
            self._since_ns, self._value = stamp_ns, value
        self._newest_ns = stamp_ns

    @property
    def frozen_s(self) -> float:
        """For how long, by the stamps, the content has been the same; 0 for content that was seen once."""
        return (self._newest_ns - self._since_ns) / NANOSECONDS

    def clear(self) -> None:
        """Forget what was seen."""
        self._value, self._since_ns, self._newest_ns = None, 0, 0
