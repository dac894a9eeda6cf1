"""The latched stop. It belongs to the robot, not to a session: it outlives every filter that looks at it."""

import threading


class StopLatch:
    """Set by a stop, and by nothing but `reset` cleared. Any thread may call any method."""

    def __init__(self) -> None:
        self._latched = threading.Event()

    @property
    def latched(self) -> bool:
        """Whether a stop is latched."""
        return self._latched.is_set()

    def latch(self) -> None:
        """Drop every command from now on, until `reset`."""
        self._latched.set()

    def reset(self) -> None:
        """Let commands pass again."""
        self._latched.clear()
