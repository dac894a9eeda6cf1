"""Learning-rate schedules as functions of the step; only ``plateau`` remembers anything. No optimiser."""

import math
from typing import Any

from vla_ros.training.recipe import ScheduleOptions

ONE_CYCLE_START = 1.0 / 25.0
ONE_CYCLE_WARMUP = 0.3


class Schedule:
    """The share of the largest learning rate at each step.

    Args:
        options: Which course.
        total_steps: Length of the run.
    """

    def __init__(self, options: ScheduleOptions, total_steps: int) -> None:
        self.options, self.total_steps = options, total_steps
        self._reduction, self._best, self._bad_epochs = 1.0, math.inf, 0

    def share(self, step: int) -> float:
        """Return the share for step `step`, counted from 0."""
        options = self.options
        warmup = options.warmup_share or (ONE_CYCLE_WARMUP if options.name == "one_cycle" else 0.0)
        warmup_steps = warmup * self.total_steps
        if step < warmup_steps:
            progress = (step + 1) / max(warmup_steps, 1.0)
            if options.name == "one_cycle":
                return _cosine(ONE_CYCLE_START, 1.0, min(progress, 1.0))
            return min(progress, 1.0)
        if options.name in ("cosine", "one_cycle"):
            rest = max(self.total_steps - 1 - warmup_steps, 1.0)
            return _cosine(1.0, options.final_share, min((step - warmup_steps) / rest, 1.0))
        return self._reduction

    def validated(self, loss: float) -> None:
        """Take note of an epoch's validation loss."""
        if self.options.name != "plateau":
            return
        if loss < self._best * (1.0 - self.options.threshold):
            self._best, self._bad_epochs = loss, 0
            return
        self._bad_epochs += 1
        if self._bad_epochs > self.options.patience:
            self._reduction = max(self._reduction * self.options.factor, self.options.floor)
            self._bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"reduction": self._reduction, "best": self._best, "bad_epochs": self._bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._reduction, self._best, self._bad_epochs = state["reduction"], state["best"], state["bad_epochs"]


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0
