"""One episode on its way into a dataset: frames are checked, images encoded at once, numbers collected."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError, nearest_name
from vla_ros.datasets.images import VideoEncoder, encode_png
from vla_ros.datasets.layout import Codec
from vla_ros.datasets.statistics import PixelCounts
from vla_ros.datasets.tables import image_column, number_column


class EpisodeBuffer:
    """Takes an episode's frames. Memory grows with its numbers and PNG bytes, not with its video.

    Args:
        features: Of every frame.
        fps: Of the video.
        video_folder: Where video segments are written, one per image feature, or None to keep PNG bytes.
        codec, crf: Of the video.
    """

    def __init__(
        self, features: Mapping[str, FeatureSpec], fps: int, video_folder: Path | None, codec: Codec, crf: int | None
    ) -> None:
        self._features, self._folder = features, video_folder
        images = {key: spec for key, spec in features.items() if spec.kind == "image"}
        self.pixels = {key: PixelCounts() for key in images}
        self._numbers: dict[str, list[NDArray[Any]]] = {key: [] for key in features if key not in images}
        self._pictures: dict[str, list[bytes]] = {}
        self._encoders: dict[str, VideoEncoder] = {}
        self.segments: dict[str, Path] = {}
        self.length = 0
        for index, (key, spec) in enumerate(images.items()):
            if video_folder is None:
                self._pictures[key] = []
            else:
                self.segments[key] = video_folder / f"{index}.mp4"
                self._encoders[key] = VideoEncoder(self.segments[key], (spec.shape[0], spec.shape[1]), fps, codec, crf)

    def add(self, frame: Mapping[str, NDArray[Any]], place: str) -> None:
        """Take one frame.

        Raises:
            DatasetError: Keys, shapes, dtypes or numbers are wrong; `place` says where.
        """
        place = f"{place}, frame {self.length}"
        if frame.keys() != self._features.keys():
            missing, extra = self._features.keys() - frame.keys(), frame.keys() - self._features.keys()
            key = min(missing or extra)
            problem = f"lacks '{key}'" if missing else f"has '{key}', which is no feature of the dataset"
            raise DatasetError(f"{place}: {problem}.{nearest_name(key, extra if missing else missing)}")
        for key, spec in self._features.items():
            value = np.asarray(frame[key])
            _check(value, spec, place)
            if key in self._numbers:
                self._numbers[key].append(np.array(value, spec.dtype))
                continue
            self.pixels[key].add(value)
            if key in self._encoders:
                self._encoders[key].add(value)
            else:
                self._pictures[key].append(encode_png(value))
        self.length += 1

    def close(self, place: str) -> None:
        """End the episode.

        Raises:
            DatasetError: It has no frames.
        """
        if not self.length:
            raise DatasetError(f"{place} has no frames.")
        for encoder in self._encoders.values():
            encoder.close()

    def abandon(self) -> None:
        """Drop the episode and its video."""
        for encoder in self._encoders.values():
            encoder.abandon()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return the features that are numbers, each [L, ...]."""
        return {key: np.stack(values) for key, values in self._numbers.items()}

    def columns(self) -> dict[str, Any]:
        """Return the parquet columns of all features that have one."""
        columns = {key: number_column(values, self._features[key]) for key, values in self.numbers().items()}
        return columns | {key: image_column(pictures) for key, pictures in self._pictures.items()}


def _check(value: NDArray[Any], spec: FeatureSpec, place: str) -> None:
    if value.shape != spec.shape:
        raise DatasetError(f"{place}: '{spec.key}' must have shape {list(spec.shape)}, got {list(value.shape)}.")
    if spec.kind == "image":
        if value.dtype != np.uint8:
            raise DatasetError(f"{place}: '{spec.key}' must be uint8 RGB, got {value.dtype}.")
        return
    if not np.can_cast(value.dtype, spec.dtype, "same_kind"):
        raise DatasetError(f"{place}: '{spec.key}' must be {spec.dtype}, got {value.dtype}.")
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return
    if spec.kind not in ("points", "window"):
        raise DatasetError(f"{place}: '{spec.key}' holds a number that is not finite: {value.tolist()}.")
    empty = np.isnan(value).all(axis=-1)
    if not np.isfinite(value[~empty]).all():
        raise DatasetError(f"{place}: '{spec.key}' may be NaN in whole rows only, and never infinite.")
