"""One episode as the pages show it: signals, jerk, an H.264 video and the first and last image of each camera."""

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.datasets import EpisodeDataset
from vla_ros.datasets.images import VideoEncoder
from vla_ros.datasets.remux import Stretch, inspect_stretch, join_stretches
from vla_ros.datasets.video_access import VideoReader

_BLOCK = 32
_THUMBNAIL = 160
_MOST_NUMBERS = 64
"""Numbers of a feature that are drawn."""


def signals(dataset: EpisodeDataset, index: int) -> list[dict[str, Any]]:
    """Return what is drawn of an episode: every number, action and state of the same name together.

    Returns:
        Plots, each with ``name`` and ``lines``: ``feature``, ``dashed`` (an action) and ``values``, a frame each.
    """
    keys = [key for key, spec in dataset.features.items() if spec.kind in ("vector", "action")]
    values = dataset.episode(index, keys).values
    plots: dict[str, dict[str, Any]] = {}
    for key in sorted(keys, key=lambda key: (not key.startswith("observation"), key)):
        rows = values[key].reshape(len(values[key]), -1).astype(float)
        for column, name in enumerate(number_names(dataset, key)[:_MOST_NUMBERS]):
            shared = key in ("observation.state", "action")
            plot = plots.setdefault(name if shared else f"{key} {name}", {"lines": []})
            line = [None if not np.isfinite(v) else float(f"{v:.6g}") for v in rows[:, column]]
            plot["lines"].append({"feature": key, "dashed": key.startswith("action"), "values": line})
    return [{"name": name, **plot} for name, plot in plots.items()]


def number_names(dataset: EpisodeDataset, key: str) -> list[str]:
    """Return the names of a feature's numbers."""
    spec = dataset.features[key]
    size = int(np.prod(spec.shape))
    return list(spec.names) if len(spec.names) == size else [str(n) for n in range(size)]


def jerk(rows: NDArray[np.float64], spread: NDArray[np.float64], fps: int) -> float:
    """Return how jerky a motion is: the root mean square of its third derivative, in ranges of each number per s³.

    Args:
        rows: [L, S].
        spread: Largest minus smallest value of each number over the dataset, [S].
        fps: Frames per second.
    """
    if len(rows) < 4 or not (spread > 0).any():
        return 0.0
    third = np.diff(rows[:, spread > 0] / spread[spread > 0], n=3, axis=0) * float(fps) ** 3
    return float(np.sqrt(np.mean(third**2)))


def write_video(dataset: EpisodeDataset, index: int, key: str, path: Path) -> None:
    """Write an episode's images of one camera as H.264; what is H.264 already is copied packet by packet."""
    length, shape = dataset.lengths[index], dataset.features[key].shape
    if dataset.is_video(key):
        source, start_s = dataset.video_of(index, key)
        stretch = Stretch(source, start_s, length)
        info = inspect_stretch(stretch, dataset.fps)
        if info is not None and info.coding[0] == "h264" and info.coding[3] == "yuv420p":
            join_stretches([stretch], path, dataset.fps, info.delay)
            return
    height, width = (side - side % 2 for side in shape[:2])  # 4:2:0 has even sides
    encoder = VideoEncoder(path, (height, width), dataset.fps, "h264")
    for block in _blocks(dataset, index, key):
        for image in block:
            encoder.add(np.ascontiguousarray(image[:height, :width]))
    encoder.close()


def _blocks(dataset: EpisodeDataset, index: int, key: str) -> Any:
    length = dataset.lengths[index]
    if not dataset.is_video(key):
        yield from dataset.chunks(index, key, range(length), _BLOCK)
        return
    path, start_s = dataset.video_of(index, key)
    reader = VideoReader(path, dataset.features[key].shape, dataset.fps)
    try:
        for first in range(0, length, _BLOCK):
            yield reader.read(start_s, range(first, min(first + _BLOCK, length)))
    finally:
        reader.close()


def write_ends(video: Path, first: Path, last: Path) -> None:
    """Write the first and the last image of a video as small JPEG files."""
    with av.open(str(video)) as container:
        images = list(_first_and_last(container))
    for image, path in zip(images, (first, last), strict=True):
        scale = _THUMBNAIL / max(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(".jpg", small[..., ::-1])
        if not done:
            raise RuntimeError("cv2 could not encode an image as JPEG")
        path.write_bytes(data.tobytes())


def _first_and_last(container: Any) -> Any:
    last = None
    for frame in container.decode(video=0):
        if last is None:
            yield frame.to_ndarray(format="rgb24")
        last = frame
    if last is not None:
        yield last.to_ndarray(format="rgb24")
