"""Rollouts to look at: a video of several episodes, and one episode's frames above its commands. No ROS."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ActionSpec
from vla_ros.data_types import NANOSECONDS
from vla_ros.evaluation.rollout_report import EpisodeTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 384  # px, side of a camera in the video; even, as yuv420p wants
CAPTION = 44  # px, even
GAP = 8  # px, even
STRIP_COLUMNS = 8
_BACKGROUND = (250, 250, 250)
_INK = (40, 40, 40)
_GREEN, _RED = (22, 128, 60), (190, 40, 40)
_COLOURS = ("#3b6fb6", "#d1803a", "#4a9a6a", "#8a5fb0", "#b0504f", "#6b6b6b", "#a3a13a")


def save_video(path: Path, traces: Sequence[EpisodeTrace], fps: int) -> None:
    """Write the recorded cameras side by side, one episode after the other, with a caption below.

    Args:
        path: ``.mp4`` to write, H.264.
        traces: Episodes with images; those without are left out.
        fps: Frames per second of robot time; the video runs at that speed.

    Raises:
        ValueError: No trace has images.
    """
    import av

    recorded = [trace for trace in traces if _frame_times(trace)]
    if not recorded:
        raise ValueError("no episode was recorded with images")
    width = max(_canvas_width(len(trace.images)) for trace in recorded)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, PANEL + CAPTION, "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, fps)
        number = 0
        for trace in recorded:
            for pixels in _episode_frames(trace, width, fps):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = number
                number += 1
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def save_episode_picture(path: Path, trace: EpisodeTrace, action: ActionSpec, title: str) -> None:
    """Write one episode as a picture: a strip of frames of every camera above the commands over time.

    Args:
        path: ``.png`` to write.
        trace: An episode, with images if a strip is wanted.
        action: Names, units and gripper of the commands.
        title: One line at the top.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cameras = [key for key, images in trace.images.items() if images]
    gripper = action.gripper_index
    plots = 1 + (gripper is not None)
    figure = Figure(figsize=(12, 1.0 + 1.42 * len(cameras) + 1.9 * plots), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(cameras) + plots, 1, height_ratios=[1.42] * len(cameras) + [2.1] + [1.0] * (plots - 1), hspace=0.1,
        left=0.075, right=0.985, top=1 - 0.55 / figure.get_figheight(), bottom=0.5 / figure.get_figheight(),
    )  # fmt: skip
    figure.suptitle(title, fontsize=13, x=0.075, ha="left", y=1 - 0.18 / figure.get_figheight())
    for row, key in enumerate(cameras):
        _draw_strip(figure, grid[row], key, trace, with_times=row == 0)
    motion = [index for index in range(len(action.names)) if index != gripper]
    axes = figure.add_subplot(grid[len(cameras)])
    _draw_commands(axes, trace, action, motion)
    if gripper is not None:
        below = figure.add_subplot(grid[len(cameras) + 1], sharex=axes)
        _draw_commands(below, trace, action, [gripper])
        axes.tick_params(labelbottom=False)
        axes = below
    axes.set_xlabel("s of robot time since the reset")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _frame_times(trace: EpisodeTrace) -> list[int]:
    return sorted({stamp for images in trace.images.values() for stamp, _ in images})


def _canvas_width(cameras: int) -> int:
    return cameras * PANEL + (cameras - 1) * GAP


def _episode_frames(trace: EpisodeTrace, width: int, fps: int) -> list[NDArray[np.uint8]]:
    """Return the episode's video frames, uint8 [h, w, 3], with its last one held for a second."""
    by_time = {key: dict(images) for key, images in trace.images.items()}
    newest: dict[str, NDArray[Any]] = {}
    frames = []
    for stamp in _frame_times(trace):
        newest.update({key: images[stamp] for key, images in by_time.items() if stamp in images})
        if len(newest) == len(by_time):
            frames.append(_video_frame(trace, [newest[key] for key in by_time], stamp, width))
    return frames + frames[-1:] * fps


def _video_frame(trace: EpisodeTrace, images: Sequence[NDArray[Any]], stamp: int, width: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (width, PANEL + CAPTION), _BACKGROUND)
    for index, image in enumerate(images):
        scale = PANEL / max(image.shape[:2])
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        picture = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)
        left, top = (PANEL - size[0]) // 2, (PANEL - size[1]) // 2
        canvas.paste(picture, (index * (PANEL + GAP) + left, top))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=20)
    baseline = PANEL + 10
    elapsed_s = (stamp - trace.start_ns) / NANOSECONDS
    draw.text((10, baseline), f"start {trace.seed}     {elapsed_s:4.1f} s", fill=_INK, font=font)
    verdict, colour = _verdict(trace, stamp)
    draw.text((width - 10, baseline), verdict, fill=colour, font=font, anchor="ra")
    return np.asarray(canvas, dtype=np.uint8)


def _verdict(trace: EpisodeTrace, stamp: int) -> tuple[str, tuple[int, int, int]]:
    if trace.success_ns is not None and stamp >= trace.success_ns:
        return "success", _GREEN
    if trace.success_ns is None and stamp >= trace.end_ns:
        return "time is up", _RED
    return "running", _INK


def _draw_strip(figure: "Figure", cell: Any, key: str, trace: EpisodeTrace, *, with_times: bool) -> None:
    images = trace.images[key]
    chosen = np.linspace(0, len(images) - 1, min(STRIP_COLUMNS, len(images))).round().astype(int)
    strip = cell.subgridspec(1, STRIP_COLUMNS, wspace=0.05)
    for column, index in enumerate(chosen):
        stamp, image = images[index]
        axes = figure.add_subplot(strip[column])
        axes.imshow(image, interpolation="lanczos", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        if with_times:
            axes.set_title(f"{(stamp - trace.start_ns) / NANOSECONDS:.1f} s", fontsize=8, color="#666666", pad=2)
        if column == 0:
            axes.set_ylabel(key.rpartition(".")[2], fontsize=10)


def _draw_commands(axes: "Axes", trace: EpisodeTrace, action: ActionSpec, indices: Sequence[int]) -> None:
    times_s = [(command.effect_ns - trace.start_ns) / NANOSECONDS for command in trace.commands]
    unit = action.units[indices[0]]
    scale, label = (1e3, "mm") if unit == "m" and action.representation == "displacement" else (1.0, unit)
    for order, index in enumerate(indices):
        values = [float(command.action[index]) * scale for command in trace.commands]
        colour = _COLOURS[order % len(_COLOURS)] if len(indices) > 1 else "#555555"
        axes.step(times_s, values, where="post", color=colour, linewidth=1.5, label=action.names[index])
    name = "command" if len(indices) > 1 else action.names[indices[0]]
    axes.set_ylabel(name if label == "1" else f"{name} [{label}]")
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.set_xlim(0, max((trace.end_ns - trace.start_ns) / NANOSECONDS, 0.1))
    axes.spines[["top", "right"]].set_visible(False)
    if trace.success_ns is not None:
        moment_s = (trace.success_ns - trace.start_ns) / NANOSECONDS
        axes.axvline(moment_s, color="#16803c", linewidth=1.5, linestyle="--", label="success")
    if len(indices) > 1:
        axes.legend(loc="upper left", ncols=len(indices) + 1, frameon=False, fontsize=9, bbox_to_anchor=(0, 1.02))
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.22 * (high - low))  # room for the legend
