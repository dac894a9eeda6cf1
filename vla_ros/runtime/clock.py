"""What time it is, as the runtime asks it. No ROS: a node's clock, a bag's and a simulator's all fit the protocol."""

from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Now and wait-until on one timeline, in integer nanoseconds."""

    @property
    def is_simulated(self) -> bool:
        """Whether time comes from elsewhere than this machine's clock, so that a wait cannot be a sleep."""

    @property
    def silent_s(self) -> float:
        """Wall time in s since simulated time last advanced; 0 under system time."""

    def now_ns(self) -> int:
        """Return the present time in ns; 0 while simulated time has not begun."""

    def wait_until(self, t_ns: int, stopped: Callable[[], bool]) -> int | None:
        """Wait until `t_ns`.

        Args:
            t_ns: The deadline in ns.
            stopped: Asked at least every 0.1 s; True ends the wait.

        Returns:
            How late it is on return, in ns of wall time; None when it was stopped or time went back meanwhile.
        """


class ManualClock:
    """A clock that stands where it is put: a bag's, a simulator's, a test's.

    Args:
        now_ns: Time at first, ns.
    """

    is_simulated = True
    silent_s = 0.0

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Return the time that was last set, ns."""
        return self._now_ns

    def set(self, now_ns: int) -> None:
        """Say what time it is, ns."""
        self._now_ns = now_ns

    def wait_until(self, t_ns: int, stopped: Callable[[], bool]) -> int | None:  # noqa: ARG002
        """Go to `t_ns` at once; nobody else moves this clock."""
        self._now_ns = max(self._now_ns, t_ns)
        return 0
