"""A conversion as a picture: the streams of every bag over time, their gaps and clocks, and what became of them."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.converters.timeline import BagLine, StreamLine, shown

MOST_BAGS = 20
_ROW_IN, _HEAD_IN, _WIDTH_IN = 0.2, 0.72, 11.0
_EPISODE, _LEFT_OUT, _GAP, _STEP, _SILENT = "#2a9d4a", "#f4c58f", "#d1342f", "#7b2cbf", "#f2f2f2"
_LEGEND = (
    (_EPISODE, "episode"),
    (_LEFT_OUT, "trimmed or refused"),
    ("#5a9fd4", "messages"),
    (_GAP, "longer than max_age_s"),
    (_STEP, "clock step"),
)


def draw_report(lines: Sequence[BagLine], title: str) -> bytes:
    """Draw bags, those that were refused first.

    Each topic is a row of blue, darker where more messages came than at its mean rate and empty where none did.
    Silences longer than the contract allows are red, clock steps violet; above lies in green what became episodes, and
    in orange what was trimmed or refused.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    drawn = shown(lines, MOST_BAGS)
    heights = [_HEAD_IN + _ROW_IN * (len(line.streams) + 1) for line in drawn]
    figure = Figure(figsize=(_WIDTH_IN, sum(heights) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(max(1, len(drawn)), 1, squeeze=False, height_ratios=heights or None)[:, 0]
    for axis, line in zip(axes, drawn, strict=False):
        _draw_bag(axis, line)
    if not drawn:
        axes[0].set_axis_off()
    marks = [Patch(color=color, label=label) for color, label in _LEGEND]
    figure.legend(handles=marks, loc="upper right", ncols=len(marks), fontsize=7, frameon=False)
    axes[-1].set_xlabel("time since the bag's first message, by the recorder's clock (s)", fontsize=8)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=100, metadata={"Software": None})
    return target.getvalue()


def _draw_bag(axis: Any, line: BagLine) -> None:
    rows = len(line.streams)
    length_s = max(line.length_s, 1e-3)
    axis.barh(-1, length_s, left=0.0, height=0.6, color=_LEFT_OUT)
    for begin_s, end_s in line.episodes_s:
        axis.barh(-1, max(end_s - begin_s, length_s / 500), left=begin_s, height=0.6, color=_EPISODE)
    for row, stream in enumerate(line.streams):
        _draw_stream(axis, row, stream, length_s)
    for step_s in line.steps_s:
        axis.axvline(step_s, color=_STEP, linewidth=1.5)
    axis.set_ylim(rows - 0.4, -1.6)
    axis.set_xlim(0.0, length_s)
    axis.set_yticks(
        [-1, *range(rows)], ["episodes", *(_short(stream.topic, 34) for stream in line.streams)], fontsize=7
    )
    right = axis.secondary_yaxis("right")
    right.set_yticks(range(rows), [_figures(stream) for stream in line.streams], fontsize=7)
    for side in (axis, right):
        side.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=7)
    for spine in axis.spines.values():
        spine.set_visible(False)
    right.spines["right"].set_visible(False)
    axis.set_title(_title(line), fontsize=8, loc="left", color=_GAP if line.refused else "black")


def _draw_stream(axis: Any, row: int, stream: StreamLine, length_s: float) -> None:
    share = np.clip(stream.counts / max(stream.counts.mean(), 1e-9), 0.0, 2.0)[None] / 2.0
    share[share == 0.0] = np.nan
    axis.barh(row, length_s, left=0.0, height=0.8, color=_SILENT, zorder=0)
    axis.imshow(
        share,
        extent=(0.0, length_s, row + 0.4, row - 0.4),
        aspect="auto",
        cmap="Blues",
        vmin=-0.3,
        vmax=1.0,
        interpolation="nearest",
        zorder=1,
    )
    for begin_s, end_s in stream.gaps_s:
        axis.barh(row, max(end_s - begin_s, length_s / 400), left=begin_s, height=0.8, color=_GAP, zorder=2)


def _figures(stream: StreamLine) -> str:
    offset = "" if stream.offset_s is None else f", {stream.offset_s:+.3f} s after its stamp"
    return f"{stream.rate_hz:.1f} Hz, gap ≤ {stream.longest_gap_s:.3f} s{offset}"


def _title(line: BagLine) -> str:
    name = _short(Path(line.bag).name, 60)
    text = f"{name}: {line.length_s:.1f} s, {len(line.episodes_s)} episodes" if not line.refused else f"{name}: refused"
    if line.steps_s:
        text += f", clock steps at {', '.join(f'{step_s:.2f} s' for step_s in line.steps_s[:5])}"
    if line.refused:
        text += "\n" + "\n".join(textwrap.wrap(line.refused.removeprefix(f"{line.bag}: "), 150)[:2])
    return text


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[1 - most :]
