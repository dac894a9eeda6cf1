"""What a policy does with an observation, as a picture: its tokens, who may attend to whom, and who does. No ROS.

Axis legend: B batch, L tokens, N heads, Q queries, K keys, D width.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.contract import RobotContract
from vla_ros.data_types import ConfigError
from vla_ros.evaluation.flops import build_weightless
from vla_ros.evaluation.policy_description import PolicyOptions, policy_config_of
from vla_ros.policies import Policy, PolicyOutput, current_policy, options_of, policy_class
from vla_ros.policies.examples import make_example_batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpec

LARGEST = 200_000_000
"""Parameters up to which a policy is given random weights to be drawn."""
MOST_LAYERS = 4
"""Attention layers shown of each stack: the first, the last, and some between."""
COLUMNS = 4
CHUNK = "chunk"
"""What the tokens beyond the observation's are called: the steps of the action chunk."""
CLOSEST = 0.05
"""Distance of two labels, as a ratio of the axis, below which they become one."""
_COLOURS = ("#3b6fb6", "#d1803a", "#4a9a6a", "#8a5fb0", "#b0504f", "#6b6b6b", "#a3a13a", "#4fa3b0")

Segments = Sequence[tuple[str, int]]


def policy_to_draw(
    chosen: PolicyOptions,
    contract: RobotContract,
    keys: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Policy:
    """Build a policy with random weights; arguments and errors as `describe_policy`.

    Raises:
        ConfigError: It is too large for that.
    """
    name, options = current_policy(chosen.policy, chosen.options, chosen.source)
    kind, config = (
        policy_class(name),
        policy_config_of(replace(chosen, policy=name, options=options), contract, keys, image_size),
    )
    with options_of(chosen.source or f"policy {chosen.policy}"):
        total = build_weightless(kind, config).parameter_counts()["total"]
        if total > LARGEST:
            raise ConfigError(
                f"{total:,} parameters are more than the {LARGEST:,} that are filled with random numbers for a "
                "picture; draw a smaller size, or the folder of a checkpoint."
            )
        torch.manual_seed(0)
        return kind(config)


def save_policy_picture(path: Path, policy: Policy, title: str, seed: int = 0) -> PolicyOutput:
    """Let a policy predict from an example observation (random numbers), and draw what it computes on the way.

    Args:
        path: ``.png`` to write.
        policy: The policy.
        title: One line at the top.
        seed: Of the observation and of sampling noise.

    Returns:
        The prediction, with its intermediates.

    Raises:
        ConfigError: The policy reads no sequence of tokens.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    policy.eval()
    device = next(policy.parameters()).device
    batch = {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in make_example_batch(policy.config, batch_size=1, seed=seed).items()
    }
    generator = torch.Generator(device).manual_seed(seed)
    output = policy.predict(batch, None, generator, return_intermediates=True)
    named = output.intermediates
    if "tokens" not in named:
        raise ConfigError(f"policy {policy.name} reads no sequence of tokens; there is nothing to draw.")
    attention = _shown_layers({name: value for name, value in named.items() if name.endswith("attention")})
    panels = 1 + len(attention)
    rows = -(-panels // COLUMNS)
    size = (4.4 * max(min(panels, COLUMNS), 2), 2.2 + 4.4 * rows)
    figure = Figure(figsize=size, dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, min(panels, COLUMNS), height_ratios=[1.0] + [4.4] * rows)
    figure.suptitle(title, fontsize=13)
    _draw_tokens(figure.add_subplot(grid[0, :]), output)
    _draw_matrices(figure, grid, output, attention)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return output


def _draw_tokens(axes: "Axes", output: PolicyOutput) -> None:
    """Draw the sequence as a strip, a colour for each part; tokens that stand for nothing are pale."""
    valid = _valid(output)
    colours = _colours(output.segments)
    at = 0
    for name, count in output.segments:
        for place in range(at, at + count):
            axes.bar(place, 1.0, 1.0, color=colours[name], alpha=1.0 if valid[place] else 0.2, align="edge")
        axes.axvline(at, color="white", linewidth=1.5)
        at += count
    axes.set(xlim=(0, at), ylim=(0, 1), yticks=[])
    axes.set_xticks(np.unique(np.linspace(0, at, 9).astype(int)))
    names = list(dict.fromkeys(name for name, _ in output.segments))
    counts = {name: sum(count for other, count in output.segments if other == name) for name in names}
    axes.legend(
        handles=[_patch(colours[name], f"{name} ({counts[name]})") for name in names],
        loc="lower left",
        bbox_to_anchor=(0, 1.02),
        ncols=min(len(names), 6),
        frameon=False,
        fontsize=9,
    )
    absent = int((~valid).sum())
    pale = f"; {absent} pale ones stand for nothing" if absent else ""
    width = output.intermediates["tokens"].shape[-1]
    axes.set_xlabel(f"{at} tokens of width {width}{pale}", fontsize=10)


def _draw_matrices(figure: Any, grid: "GridSpec", output: PolicyOutput, attention: Mapping[str, Tensor]) -> None:
    allow = _allowed(output)
    columns = grid.ncols
    panels: list[tuple[str, NDArray[np.floating[Any]]]] = [
        ("who (rows) may attend to whom (columns)", allow.astype(np.float64))
    ]
    panels += [(name, value[0].mean(dim=0).float().cpu().numpy()) for name, value in attention.items()]
    for number, (name, matrix) in enumerate(panels):
        axes = figure.add_subplot(grid[1 + number // columns, number % columns])
        is_mask = number == 0
        largest = 1.6 if is_mask else max(float(matrix.max()), 1e-9)
        image = axes.imshow(
            matrix, cmap="Blues" if is_mask else "viridis", vmin=0, vmax=largest, aspect="auto", interpolation="nearest"
        )
        _mark(axes, output.segments, matrix.shape)
        axes.set_title(name if is_mask else f"{name}, mean of {attention[name].shape[1]} heads", fontsize=9)
        if not is_mask:
            figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)


def _mark(axes: "Axes", segments: Segments, shape: tuple[int, ...]) -> None:
    """Write at both axes which tokens are where."""
    queries, keys = shape
    length = sum(count for _, count in segments)
    for size, is_keys in ((keys, True), (queries, False)):
        parts = list(segments) if size >= length else [(CHUNK, size)]
        if size > length:
            parts.append((CHUNK, size - length))
        places: list[float] = []
        labels: list[str] = []
        at = 0
        for name, count in parts:
            if at and is_keys:
                axes.axvline(at - 0.5, color="#d04040", linewidth=0.6)
            elif at:
                axes.axhline(at - 0.5, color="#d04040", linewidth=0.6)
            middle = at + count / 2 - 0.5
            if not places or middle - places[-1] > CLOSEST * size:
                places.append(middle)
                labels.append(name.removeprefix("observation."))
            else:
                labels[-1] += f", {name.removeprefix('observation.')}"
            at += count
        if is_keys:
            axes.set_xticks(places, labels, rotation=25, ha="right", fontsize=8)
        else:
            axes.set_yticks(places, labels, fontsize=8)


def _shown_layers(attention: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return of each stack of layers the first, the last and some between, in order."""
    stacks: dict[str, list[str]] = {}
    for name in attention:
        stacks.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append(name)
    shown = {}
    for names in stacks.values():
        chosen = np.unique(np.linspace(0, len(names) - 1, MOST_LAYERS).round().astype(int))
        shown.update({names[index]: attention[names[index]] for index in chosen})
    return shown


def _allowed(output: PolicyOutput) -> NDArray[np.bool_]:
    """Return the mask of the first sample, bool [L, L], queries first."""
    length = sum(count for _, count in output.segments)
    mask = output.intermediates.get("mask")
    if mask is None:
        return np.ones((length, length), dtype=np.bool_)
    rows = mask[0].cpu().numpy().astype(np.bool_)
    allowed: NDArray[np.bool_] = rows if rows.ndim == 2 else np.broadcast_to(rows, (length, length))
    return allowed


def _valid(output: PolicyOutput) -> NDArray[np.bool_]:
    """Return which tokens somebody may attend to, bool [L]."""
    return np.asarray(_allowed(output).any(axis=0))


def _colours(segments: Segments) -> dict[str, str]:
    names = list(dict.fromkeys(name for name, _ in segments))
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)
