"""The node clock as the policy node's threads need it: now, and wait until. No rclpy node, no policy.

Under system time a wait is a plain sleep to the deadline: the steadiest clock that a Python thread can have. Under
simulated time it is a condition that every `/clock` message notifies through the clock's own jump callback. rclpy's
``Clock.sleep_until`` would register a context shutdown hook per call and never remove it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import JumpThreshold, ROSClock, TimeJump
from rclpy.duration import Duration

from vla_ros.data_types import NANOSECONDS

_SLICE_S = 0.1  # longest sleep before looking whether to stop
_STEP_NS = 50_000_000  # a time server slews by half a millisecond a second; more at once is a step
_TOLD_S = 10.0  # how long a step is told


class NodeClock:
    """Now and wait-until on a node's clock, simulated or not.

    Args:
        clock: The node's clock.
    """

    def __init__(self, clock: ROSClock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._now_ns = clock.now().nanoseconds
        self._arrival_ns = time.monotonic_ns()
        self._listeners: list[Callable[[bool], None]] = []
        self._ahead_ns = _system_ahead_ns()
        self._stepped_ns, self._step = 0, ""
        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        self._handle: Any = clock.create_jump_callback(threshold, post_callback=self._on_jump)

    @property
    def is_simulated(self) -> bool:
        """Whether time comes from ``/clock``."""
        return bool(self._clock.ros_time_is_active)

    @property
    def silent_s(self) -> float:
        """Wall time since simulated time last advanced, s; 0 under system time."""
        return (time.monotonic_ns() - self._arrival_ns) / NANOSECONDS if self.is_simulated else 0.0

    def now_ns(self) -> int:
        """Return the node's time; 0 while simulated time has not begun."""
        return int(self._clock.now().nanoseconds)

    @property
    def step(self) -> str:
        """A sentence on the last step of the system clock, for some seconds after it; empty otherwise."""
        recent = time.monotonic_ns() - self._stepped_ns < _TOLD_S * NANOSECONDS
        return self._step if recent else ""

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` at every advance of simulated time, with True when time went back. It must not block.

        Under system time it is called with True when that clock was set, back or forward: what was stamped before and
        what is stamped after have no times in common.
        """
        self._listeners.append(listener)

    def close(self) -> None:
        """Stop following the clock."""
        self._listeners.clear()
        self._handle.unregister()

    def wait_until(self, t_ns: int, stopped: Callable[[], bool]) -> int | None:
        """Wait until the node's time reaches `t_ns`.

        Args:
            t_ns: The deadline.
            stopped: Asked at least every 0.1 s; True ends the wait.

        Returns:
            How late it is on return in ns of wall time, or None when it was stopped or time went back meanwhile.
        """
        return self._wait_simulated(t_ns, stopped) if self.is_simulated else self._wait_system(t_ns, stopped)

    def _wait_system(self, t_ns: int, stopped: Callable[[], bool]) -> int | None:
        while not stopped():
            if self._was_set():
                return None
            remaining_ns = t_ns - time.time_ns()
            if remaining_ns <= 0:
                return -remaining_ns
            time.sleep(min(remaining_ns / NANOSECONDS, _SLICE_S))
        return None

    def _was_set(self) -> bool:
        """Whether the system clock was set since the last look; no callback of rclpy's tells that."""
        ahead_ns = _system_ahead_ns()
        moved_ns, self._ahead_ns = ahead_ns - self._ahead_ns, ahead_ns
        if abs(moved_ns) < _STEP_NS:
            return False
        direction = "back" if moved_ns < 0 else "forward"
        self._step = f"The system clock was set {direction} by {abs(moved_ns) / NANOSECONDS:.3f} s."
        self._stepped_ns = time.monotonic_ns()
        for listener in self._listeners:
            listener(True)
        return True

    def _wait_simulated(self, t_ns: int, stopped: Callable[[], bool]) -> int | None:
        with self._changed:
            seen_ns = self._now_ns
            while not stopped():
                if self._now_ns >= t_ns:
                    return time.monotonic_ns() - self._arrival_ns
                if self._now_ns < seen_ns:
                    return None
                seen_ns = self._now_ns
                self._changed.wait(_SLICE_S)
        return None

    def _on_jump(self, jump: TimeJump) -> None:
        with self._changed:
            self._now_ns = int(self._clock.now().nanoseconds)
            self._arrival_ns = time.monotonic_ns()
            self._changed.notify_all()
        went_back = jump.delta.nanoseconds < 0
        for listener in self._listeners:
            listener(went_back)


def _system_ahead_ns() -> int:
    """Return how far the system clock is ahead of the monotonic one, read while nothing else ran in between."""
    while True:
        begin_ns, now_ns, end_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if end_ns - begin_ns < _STEP_NS // 10:
            return now_ns - end_ns
