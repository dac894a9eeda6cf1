"""One episode on its way to disk: frames are checked, images encoded at once, rows written as they fill a row group."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError, nearest_name
from vla_ros.datasets.images import VideoEncoder, encode_png
from vla_ros.datasets.layout import INDEX_FEATURES, Codec
from vla_ros.datasets.statistics import PixelCounts, Statistics, compute_statistics
from vla_ros.datasets.tables import data_schema, image_column, number_column

DATA_NAME = "data.parquet"
ROW_GROUP_BYTES = 32 * 1024 * 1024
"""PNG bytes that wait for the disk. An episode with fewer is one row group, as is one without PNG images."""


class EpisodeBuffer:
    """Takes an episode's frames into a folder: a data file, and a video for each image feature that is video.

    Memory grows with the episode's numbers, which its statistics need, and with neither its images nor its video.

    Args:
        folder: To write into; must not exist.
        features: Of every frame.
        fps: Frames per second.
        codec, crf: Of videos; None for the codec stores images as PNG.
        episode_index, first_index, task_index: Where the episode stands in the dataset.
    """

    def __init__(
        self,
        folder: Path,
        features: Mapping[str, FeatureSpec],
        fps: int,
        codec: Codec | None,
        crf: int | None,
        *,
        episode_index: int,
        first_index: int,
        task_index: int,
    ) -> None:
        self.folder, self._features, self._fps = folder, features, fps
        self._place = {"episode_index": episode_index, "task_index": task_index}
        self._first_index = first_index
        images = {key: spec for key, spec in features.items() if spec.kind == "image"}
        self.pixels = {key: PixelCounts() for key in images}
        self._numbers: dict[str, list[NDArray[Any]]] = {key: [] for key in features if key not in images}
        self._pictures: dict[str, list[bytes]] = {} if codec is not None else {key: [] for key in images}
        self._pictures_bytes = 0
        self._encoders: dict[str, VideoEncoder] = {}
        self._schema = data_schema(features, images=codec is None)
        self._writer: Any = None
        self._written = self.length = self.nbytes = 0
        folder.mkdir()
        try:
            for index, (key, spec) in enumerate(images.items()):
                if codec is not None:
                    size = (spec.shape[0], spec.shape[1])
                    self._encoders[key] = VideoEncoder(folder / video_name(index), size, fps, codec, crf)
        except BaseException:
            self.abandon()
            raise

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
                self._pictures_bytes += len(self._pictures[key][-1])
        self.length += 1
        if self._pictures_bytes > ROW_GROUP_BYTES:
            self._flush()

    def close(self, place: str) -> None:
        """End the episode and its files.

        Raises:
            DatasetError: It has no frames.
        """
        if not self.length:
            raise DatasetError(f"{place} has no frames.")
        if self._written < self.length:
            self._flush()
        self._writer.close()
        for encoder in self._encoders.values():
            encoder.close()

    def _flush(self) -> None:
        """Write the rows that wait as one row group."""
        table = self._table(self._written, self.length)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.folder / DATA_NAME, self._schema, write_page_checksum=True)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._written, self._pictures_bytes = self.length, 0
        self.nbytes += table.nbytes
        self._pictures = {key: [] for key in self._pictures}

    def _table(self, first: int, last: int) -> Any:
        columns = {
            key: number_column(np.stack(values[first:last]), self._features[key])
            for key, values in self._numbers.items()
        }
        columns |= {key: image_column(pictures, first) for key, pictures in self._pictures.items()}
        columns |= {key: pa.array(values[first:last]) for key, values in self._index().items()}
        return pa.table([columns[name] for name in self._schema.names], schema=self._schema)

    def _index(self) -> dict[str, NDArray[Any]]:
        frame_index = np.arange(self.length, dtype=np.int64)
        same = {key: np.full(self.length, value, np.int64) for key, value in self._place.items()}
        return {
            "timestamp": (frame_index / self._fps).astype(np.float32),
            "frame_index": frame_index,
            "index": frame_index + self._first_index,
            **same,
        }

    def statistics(self) -> dict[str, Statistics]:
        """Return the episode's statistics, of its features and of the columns that every dataset has."""
        numbers = {key: np.stack(values) for key, values in self._numbers.items()}
        statistics = compute_statistics(numbers, self._features)
        statistics |= {key: pixels.statistics() for key, pixels in self.pixels.items()}
        index = self._index()
        return statistics | compute_statistics({key: index[key] for key in INDEX_FEATURES}, {})

    def abandon(self) -> None:
        """Drop the episode and its files."""
        for encoder in self._encoders.values():
            try:
                encoder.abandon()
            except (av.FFmpegError, OSError):  # noqa: PERF203 - the disk may be full; the file goes in any case
                continue
        if self._writer is not None:
            try:
                self._writer.close()
            except (pa.ArrowException, OSError):
                self._writer = None
        shutil.rmtree(self.folder, ignore_errors=True)


def video_name(index: int) -> str:
    """Return the name of an episode's video of its image feature number `index`."""
    return f"{index}.mp4"


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
        raise DatasetError(f"{place}: '{spec.key}' holds a number that is not finite: {str(value.tolist())[:120]}.")
    empty = np.isnan(value).all(axis=-1)
    if not np.isfinite(value[~empty]).all():
        raise DatasetError(f"{place}: '{spec.key}' may be NaN in whole rows only, and never infinite.")
