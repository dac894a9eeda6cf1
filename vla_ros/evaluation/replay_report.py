"""What a replay found: errors of the commands and of each chunk step against the recorded action, JSON and a plot.

numpy and matplotlib only; nothing here reads a bag or runs a policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ActionChunk
from vla_ros.data_types.rotations import from_quaternion, inverse, multiply, to_quaternion
from vla_ros.streams import MissingInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIGITS = 9
"""Significant digits in the report: more than any sensor gives, few enough to hide the last bits of float32."""

CONSTANT = 1e-6
"""Numbers that vary by less, relative to their size, are taken for constant: float32 carries no more."""

_RECORDED, _COMMANDED = "#4a4a4a", "#d1602a"
_STEP_COLOURS = ("#3b6fb6", "#d1803a", "#4a9a6a", "#8a5fb0", "#b0504f", "#6b6b6b", "#a3a13a")


@dataclass
class ReplayTrace:
    """What happened at each tick of a replay.

    Attributes:
        action_dim: A.
        stamps_ns: The ticks from the first with all inputs to the last one, ascending.
        recorded: Tick → float64 [A], where the demonstrator commanded.
        commands: Control moment → float64 [A], after the safety filter; ticks are control moments too.
        chunks: Every prediction.
        missing: Feature key → number of ticks without it, and why at the last of them.
        last_missing: What was missing at the last tick before the first with all inputs.
        interventions: What the safety filter did, and how often.
        refused: Why goals of the bag could not be used, one sentence each.
    """

    action_dim: int
    stamps_ns: list[int] = field(default_factory=list)
    recorded: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    commands: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    chunks: list[ActionChunk] = field(default_factory=list)
    missing: dict[str, tuple[int, str]] = field(default_factory=dict)
    last_missing: tuple[MissingInput, ...] = ()
    interventions: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def add_tick(self, stamp_ns: int) -> None:
        """Begin the next tick."""
        self.stamps_ns.append(stamp_ns)

    def add_missing(self, missing: Sequence[MissingInput]) -> None:
        """Count the inputs that the present tick lacks."""
        for item in missing:
            self.missing[item.key] = (self.missing.get(item.key, (0, ""))[0] + 1, str(item))

    def add_command(self, moment_ns: int, action: NDArray[np.float64]) -> None:
        """Note what was commanded at a control moment."""
        self.commands[moment_ns] = action

    def add_recorded(self, stamp_ns: int, action: NDArray[np.float64] | None) -> None:
        """Note what the demonstrator commanded at a tick."""
        if action is not None:
            self.recorded[stamp_ns] = action

    def at_ticks(self, actions: dict[int, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return float64 [ticks, A], rows of NaN where there is none."""
        nothing = np.full(self.action_dim, np.nan)
        return np.array([actions.get(stamp_ns, nothing) for stamp_ns in self.stamps_ns]).reshape(-1, self.action_dim)


def summarise(trace: ReplayTrace, contract: RobotContract) -> dict[str, Any]:
    """Return the report's numbers.

    Returns:
        Counts of ticks; ``errors``: per action name mae, rmse, max, bias (in its unit), correlation (None where one of
        both is constant) and recorded_std; ``rotation_error_rad`` where the action has a rotation; ``horizon``: mean
        absolute error of each chunk step, by name.
    """
    recorded, executed = trace.at_ticks(trace.recorded), trace.at_ticks(trace.commands)
    executed = _same_sign(executed, recorded, contract)
    both = ~(np.isnan(recorded).any(axis=1) | np.isnan(executed).any(axis=1))
    action = contract.action
    report: dict[str, Any] = {
        "duration_s": _rounded((trace.stamps_ns[-1] - trace.stamps_ns[0]) / NANOSECONDS),
        "ticks": len(trace.stamps_ns),
        "ticks_compared": int(both.sum()),
        "ticks_without_command": int(np.isnan(executed).any(axis=1).sum()),
        "ticks_without_recorded_action": int(np.isnan(recorded).any(axis=1).sum()),
        "predictions": len(trace.chunks),
        "missing_inputs": {key: {"ticks": count, "last": why} for key, (count, why) in sorted(trace.missing.items())},
        "interventions": trace.interventions,
        "errors": {
            name: {"unit": unit, **_errors(executed[both, index], recorded[both, index])}
            for index, (name, unit) in enumerate(zip(action.names, action.units, strict=True))
        },
    }
    if action.rotation != "none" and both.any():
        angles = _angles(executed[both], recorded[both], contract)
        report["rotation_error_rad"] = {"mean": _rounded(angles.mean()), "max": _rounded(angles.max())}
    report["horizon"] = _horizon(trace, contract)
    return report


def _errors(executed: NDArray[np.float64], recorded: NDArray[np.float64]) -> dict[str, Any]:
    """Return the errors of one action number over the ticks compared."""
    names = ("mae", "rmse", "max", "bias", "correlation", "recorded_std")
    if not len(executed):
        return dict.fromkeys(names)
    error = executed - recorded
    varies = _deviation(executed) > 0 and _deviation(recorded) > 0
    values = (
        np.abs(error).mean(),
        np.sqrt(np.square(error).mean()),
        np.abs(error).max(),
        error.mean(),
        np.corrcoef(executed, recorded)[0, 1] if varies else None,
        _deviation(recorded),
    )
    return {name: None if value is None else _rounded(value) for name, value in zip(names, values, strict=True)}


def _deviation(values: NDArray[np.float64]) -> float:
    """Return the standard deviation, 0 for what varies by rounding only."""
    deviation = float(values.std())
    return deviation if deviation > CONSTANT * max(1.0, float(np.abs(values).max())) else 0.0


def _horizon(trace: ReplayTrace, contract: RobotContract) -> list[dict[str, Any]]:
    """Return the error of each chunk step against the action recorded at the tick on which the step is due."""
    names = contract.action.names
    order = {stamp_ns: index for index, stamp_ns in enumerate(trace.stamps_ns)}
    recorded = trace.at_ticks(trace.recorded)
    steps = max((len(chunk.actions_HA) for chunk in trace.chunks), default=0)
    rows = []
    for step in range(steps):
        pairs = [
            (chunk.actions_HA[step], recorded[at])
            for chunk in trace.chunks
            if step < len(chunk.actions_HA)
            and (at := order[chunk.observation_stamp_ns] + step) < len(recorded)
            and not np.isnan(recorded[at]).any()
        ]
        row: dict[str, Any] = {"step": step, "time_s": _rounded(step / contract.fps), "compared": len(pairs)}
        if pairs:
            predicted, true = (np.array(side) for side in zip(*pairs, strict=True))
            mae = np.abs(_same_sign(predicted, true, contract) - true).mean(axis=0)
            row["mae"] = {name: _rounded(value) for name, value in zip(names, mae, strict=True)}
        rows.append(row)
    return rows


def _same_sign(
    values: NDArray[np.float64], reference: NDArray[np.float64], contract: RobotContract
) -> NDArray[np.float64]:
    """Choose of q and -q, which are the same rotation, the one on the reference's side."""
    if contract.action.rotation != "quaternion":
        return values
    part = contract.action.rotation_slice
    opposite = np.sum(values[:, part] * reference[:, part], axis=1, keepdims=True) < 0
    signed = values.copy()
    signed[:, part] = np.where(opposite, -values[:, part], values[:, part])
    return signed


def _angles(
    values: NDArray[np.float64], reference: NDArray[np.float64], contract: RobotContract
) -> NDArray[np.float64]:
    """Return the angle between the rotations of each row, rad [N]."""
    part, form = contract.action.rotation_slice, contract.action.rotation
    if contract.action.representation == "twist":  # an angular velocity is a vector, not a rotation
        return np.asarray(np.linalg.norm(values[:, part] - reference[:, part], axis=1))
    turn = multiply(inverse(to_quaternion(reference[:, part], form)), to_quaternion(values[:, part], form))
    return np.asarray(np.linalg.norm(from_quaternion(turn, "rotation_vector"), axis=-1))


def _rounded(value: float | np.floating[Any]) -> float:
    return float(f"{float(value):.{DIGITS}g}")


def format_report(summary: dict[str, Any]) -> str:
    """Return the report as a few lines of text: what ran, the errors per action number, what was missing."""
    without = summary["ticks_without_command"]
    lines = [
        f"{summary['bag']}: {summary['ticks']} ticks in {summary['duration_s']:.1f} s, "
        f"{summary['ticks_compared']} compared" + (f", {without} without a command" if without else ""),
        "",
        f"{'action':<14}{'unit':>6}" + "".join(f"{name:>12}" for name in ("MAE", "RMSE", "max", "r")),
    ]
    for name, errors in summary["errors"].items():
        numbers = (errors[key] for key in ("mae", "rmse", "max", "correlation"))
        lines.append(
            f"{name:<14}{errors['unit']:>6}" + "".join(f"{'-' if n is None else f'{n:.4g}':>12}" for n in numbers)
        )
    if "rotation_error_rad" in summary:
        rotation = summary["rotation_error_rad"]
        lines.append(f"{'rotation':<14}{'rad':>6}{rotation['mean']:>12.4g}{'':>12}{rotation['max']:>12.4g}")
    lines += [f"missing on {item['ticks']} ticks: {item['last']}" for item in summary["missing_inputs"].values()]
    lines += [f"safety filter, {name}: {count} commands" for name, count in summary["interventions"].items()]
    return "\n".join(lines)


def plot_replay(trace: ReplayTrace, contract: RobotContract, summary: dict[str, Any], path: Path) -> None:
    """Draw recorded and commanded actions over time, a panel per number, and the error over the chunk's steps.

    Args:
        trace: The replay.
        contract: The robot.
        summary: The report, for its errors.
        path: PNG to write.
    """
    from matplotlib.figure import Figure

    action = contract.action
    count = len(action.names)
    figure = Figure(figsize=(10.0, 1.5 * count + 3.2), layout="constrained")
    axes = figure.subplots(count + 1, 1, height_ratios=[1.0] * count + [1.5], squeeze=False)[:, 0]
    for axis in axes[1:count]:
        axis.sharex(axes[0])
    time_s = (np.array(trace.stamps_ns) - trace.stamps_ns[0]) / NANOSECONDS
    recorded = trace.at_ticks(trace.recorded)
    executed = _same_sign(trace.at_ticks(trace.commands), recorded, contract)
    for index, (name, unit, axis) in enumerate(zip(action.names, action.units, axes[:count], strict=True)):
        axis.plot(time_s, recorded[:, index], color=_RECORDED, linewidth=1.6, label="recorded")
        axis.plot(time_s, executed[:, index], color=_COMMANDED, linewidth=1.2, label="commanded")
        axis.set_ylabel(f"{name} [{unit}]")
        axis.ticklabel_format(axis="y", useOffset=False)
        low, high = axis.get_ylim()
        if high - low < 1e-3 * max(1.0, abs(low)):  # a constant: do not blow its rounding up to a curve
            axis.set_ylim(low - 0.5 * max(1e-2, abs(low)), high + 0.5 * max(1e-2, abs(low)))
        axis.set_title(_caption(summary["errors"][name]), loc="right", fontsize=8, pad=2)
        _plain(axis)
        axis.tick_params(labelbottom=index == count - 1)
    axes[0].legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=8, borderaxespad=0.2)
    axes[count - 1].set_xlabel("time since the first tick [s]")
    _plot_horizon(axes[count], summary)
    figure.align_ylabels()
    figure.suptitle(f"{summary['bag']}, commanded by {summary['checkpoint']}", fontsize=10)
    figure.savefig(path, dpi=110)


def _caption(errors: dict[str, Any]) -> str:
    if errors["mae"] is None:
        return "nothing to compare"
    correlation = "" if errors["correlation"] is None else f"   r {errors['correlation']:.2f}"
    return f"MAE {errors['mae']:.3g}   RMSE {errors['rmse']:.3g}   max {errors['max']:.3g}{correlation}"


def _plot_horizon(axis: "Axes", summary: dict[str, Any]) -> None:
    """Draw each number's error over the chunk's steps, in standard deviations of what was recorded."""
    rows = [row for row in summary["horizon"] if "mae" in row]
    for index, (name, errors) in enumerate(summary["errors"].items()):
        if rows and errors["recorded_std"]:
            curve = [row["mae"][name] / errors["recorded_std"] for row in rows]
            colour = _STEP_COLOURS[index % len(_STEP_COLOURS)]
            axis.plot([row["step"] for row in rows], curve, marker="o", markersize=3, color=colour, label=name)
    axis.set_xlabel("step of the chunk")
    axis.set_ylabel("MAE / std of the recorded")
    axis.set_ylim(bottom=0.0)
    if len(rows) <= 20:
        axis.set_xticks([row["step"] for row in rows])
    if axis.lines:
        axis.legend(frameon=False, fontsize=8, ncols=min(7, len(axis.lines)))
    _plain(axis)


def _plain(axis: "Axes") -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, alpha=0.25, linewidth=0.6)
    axis.margins(x=0.01)
