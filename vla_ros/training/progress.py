"""How a training run tells what it does: a bar on a terminal, a line per epoch elsewhere. No training."""

import sys
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vla_ros.training.history import EpochReport


class TrainingProgress(Protocol):
    """What a run reports. Calls come in the order: message*, start, (step* epoch)*, message*, finish."""

    def message(self, text: str) -> None:
        """Say one sentence."""

    def start(self, total_steps: int, done_steps: int) -> None:
        """Begin, at step `done_steps` when the run is resumed."""

    def step(self, step: int, loss: float, lr: float) -> None:
        """Report a step, counted from 1; not every one is reported."""

    def epoch(self, report: EpochReport) -> None:
        """Report the end of an epoch."""

    def finish(self) -> None:
        """End; called after an error too."""


class QuietProgress:
    """A line per epoch, for logs."""

    def message(self, text: str) -> None:
        """Print the sentence."""
        print(text, flush=True)

    def start(self, total_steps: int, done_steps: int) -> None:
        """Print how much is to be done."""
        self.message(
            f"{total_steps - done_steps} steps to train" + (f", {done_steps} done before" if done_steps else "")
        )

    def step(self, step: int, loss: float, lr: float) -> None:
        """Say nothing."""

    def epoch(self, report: EpochReport) -> None:
        """Print the epoch's numbers."""
        self.message(report.line())

    def finish(self) -> None:
        """Say nothing."""


class RichProgress:
    """A bar with loss and remaining time, and a line per epoch above it."""

    def __init__(self) -> None:
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._progress = Progress(*columns)
        self._task: TaskID | None = None

    def message(self, text: str) -> None:
        """Print the sentence above the bar."""
        self._progress.console.print(text, highlight=False, markup=False)

    def start(self, total_steps: int, done_steps: int) -> None:
        """Show the bar."""
        self._task = self._progress.add_task("", total=total_steps, completed=done_steps)
        self._progress.start()

    def step(self, step: int, loss: float, lr: float) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=step, description=f"loss {loss:.4f}, lr {lr:.1e}")

    def epoch(self, report: EpochReport) -> None:
        """Print the epoch's numbers above the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=report.step)
        self.message(report.line())

    def finish(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()


def default_progress() -> TrainingProgress:
    """Return a bar on a terminal, lines elsewhere."""
    return RichProgress() if sys.stdout.isatty() and Console().is_terminal else QuietProgress()
