"""Percentiles of recent durations. No clock: durations are given."""

from collections import deque

import numpy as np


class LatencyTracker:
    """Percentiles over the last durations, without the first ones after a cold start.

    The first inferences after loading are several times slower than the rest (allocation, kernel selection,
    compilation); counting them would hide what the robot lives with.

    Args:
        window: Durations kept.
        cold_starts: Durations ignored at first and after each `restart`.
    """

    def __init__(self, window: int = 512, cold_starts: int = 1) -> None:
        self._durations_ns: deque[int] = deque(maxlen=window)
        self._cold_starts = cold_starts
        self._to_skip = cold_starts

    def restart(self) -> None:
        """Forget everything: another model or backend was loaded."""
        self._durations_ns.clear()
        self._to_skip = self._cold_starts

    def add(self, duration_ns: int) -> None:
        """Count one duration in ns."""
        if self._to_skip:
            self._to_skip -= 1
            return
        self._durations_ns.append(duration_ns)

    def __len__(self) -> int:
        """Return how many durations are counted."""
        return len(self._durations_ns)

    def percentile_s(self, percent: float) -> float:
        """Return a percentile in s, NaN while nothing was counted."""
        durations = list(self._durations_ns)
        return float(np.percentile(durations, percent)) * 1e-9 if durations else float("nan")
