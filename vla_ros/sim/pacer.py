"""Ties simulated time to wall time."""

import time
from collections.abc import Callable

from vla_ros.data_types import NANOSECONDS

_REPORT_PERIOD_S = 5.0


class Pacer:
    """Falls behind rather than hurry: catching up would hand a policy ticks closer together than the real robot's.

    Args:
        factor: Simulated seconds in a second of wall time.
        step_ns: Length of a simulation step.
        warn: Told, in a sentence, when the machine is too slow.
    """

    def __init__(self, factor: float, step_ns: int, warn: Callable[[str], None]) -> None:
        self._factor, self._warn = factor, warn
        self._slack_s = 2.0 * step_ns / NANOSECONDS / factor
        self.restart(0)

    def restart(self, sim_ns: int) -> None:
        """From now on simulated time runs on from `sim_ns`."""
        self._anchor_wall, self._anchor_sim = time.monotonic(), sim_ns
        self._report_wall, self._report_sim = self._anchor_wall, sim_ns

    def wait_until(self, sim_ns: int) -> None:
        """Sleep until simulated time is due."""
        due = self._anchor_wall + (sim_ns - self._anchor_sim) / NANOSECONDS / self._factor
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        elif now - due > self._slack_s:
            self._anchor_wall, self._anchor_sim = now, sim_ns
        if now - self._report_wall > _REPORT_PERIOD_S:
            achieved = (sim_ns - self._report_sim) / NANOSECONDS / (now - self._report_wall)
            if achieved < 0.95 * self._factor:
                self._warn(
                    f"simulated time runs at {achieved:.2f} of wall time, asked for {self._factor:g}: "
                    "this machine is too slow"
                )
            self._report_wall, self._report_sim = now, sim_ns
