"""What each epoch measured, kept as one JSON object a line, and its picture. No training."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.checkpoint import replacing


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch in numbers.

    Attributes:
        epoch: Counted from 1.
        step: Steps done since the run began.
        train_loss: Mean over the epoch's batches, augmented and with dropout.
        lr: Learning rate of the last step.
        validation_loss: None without validation.
        terms: Mean of each of the loss's terms in training.
        validation_terms: The same in validation.
        action_error: Action number → mean absolute error in validation, in its own unit.
        wall_s: What the epoch took.
    """

    epoch: int
    step: int
    train_loss: float
    lr: float
    validation_loss: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    validation_terms: Mapping[str, float] = field(default_factory=dict)
    action_error: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0

    def line(self) -> str:
        """Return one line for people."""
        validation = "" if self.validation_loss is None else f"  validation {self.validation_loss:.5f}"
        head = f"epoch {self.epoch:3d}  step {self.step:6d}  train {self.train_loss:.5f}"
        return f"{head}{validation}  lr {self.lr:.1e}  {self.wall_s:.1f} s"


def read_history(path: Path, up_to_step: int) -> list[EpochReport]:
    """Return the reports of a file up to a step; later ones belong to what an interrupted run lost."""
    if not path.is_file():
        return []
    reports = [EpochReport(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return [report for report in reports if report.step <= up_to_step]


def write_history(path: Path, reports: Sequence[EpochReport]) -> None:
    """Write all reports, one JSON object a line."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(asdict(report)) + "\n" for report in reports), encoding="utf-8")


def loss_curve(reports: Sequence[EpochReport], title: str) -> bytes:
    """Return a PNG of training and validation loss and the learning rate over the epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Figure without pyplot: no global state, no window system
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    epochs = [report.epoch for report in reports]
    mark = "o" if len(reports) < 3 else ""
    lines = axes.plot(epochs, [r.train_loss for r in reports], label="training loss", color="tab:blue", marker=mark)
    validated = [(r.epoch, r.validation_loss) for r in reports if r.validation_loss is not None]
    if validated:
        x, y = zip(*validated, strict=True)
        lines += axes.plot(x, y, label="validation loss", color="tab:orange", marker=mark)
        best, _ = min(validated, key=lambda point: point[1])
        axes.axvline(best, color="tab:orange", linewidth=0.8, linestyle=":")
        axes.annotate(f" best: epoch {best}", (best, 1.0), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    losses = [r.train_loss for r in reports] + [loss for _, loss in validated]
    # a decade of a log axis is readable, a tenth of one is not; a loss of zero or less has no logarithm
    wide = min(losses) > 0.0 and max(losses) > 5.0 * min(losses)
    axes.set(xlabel="epoch", ylabel="loss", yscale="log" if wide else "linear", title=title)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    rate = axes.twinx()
    lines += rate.plot(
        epochs, [r.lr for r in reports], label="learning rate", color="0.6", linestyle="--", linewidth=1.0
    )
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0.0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.legend(handles=lines, loc="best", fontsize=8)
    picture = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None}  # equal runs, equal bytes
    figure.savefig(picture, format="png", dpi=110, metadata=metadata)
    return picture.getvalue()
