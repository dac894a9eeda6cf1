"""The frames of chosen episodes as one long sequence, read where they lie when they are asked for.

Small columns are held in memory. Everything else is decoded on demand: kept in a cache on disk as far as that may
reach, an episode at a time (in order, decoding is cheapest), and beyond it decoded anew each time.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets.frame_cache import CachedRows, FrameCache
from vla_ros.datasets.reader import EpisodeDataset
from vla_ros.datasets.video_access import VideoPool

IN_MEMORY_BYTES = 16_000_000
"""A column up to this size is held in memory."""
CACHE_BYTES = 4_000_000_000
"""How much of the disk the cache takes where nobody says otherwise."""
_CHUNK = 32
"""Frames held at once while an episode goes into the cache."""


class FrameStore:
    """Reads frames of some features by their place in the sequence of all chosen episodes; may be used by threads.

    Args:
        dataset: The dataset.
        episodes: Numbers of the episodes, in the order in which they follow each other here.
        keys: Features.
        shapes: Feature key → shape at one tick, where it is to differ from the dataset's (a matrix as a vector).
        cache_folder: Where the cache lies; None takes the system's folder for temporary files.
        cache_bytes: Most that the cache may hold; 0 caches nothing.

    Raises:
        DatasetError: A feature or an episode that the dataset lacks, a file is missing, or a column is malformed.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        episodes: Sequence[int],
        keys: Iterable[str],
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        cache_folder: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._dataset, self._episodes = dataset, tuple(episodes)
        lengths = [dataset.lengths[dataset.episode(index, ()).index] for index in self._episodes]
        ends = np.cumsum(lengths, dtype=np.int64)
        self._first = ends - lengths
        self._specs: dict[str, FeatureSpec] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._columns: dict[str, NDArray[Any]] = {}
        self._check_order()
        for key in dict.fromkeys(keys):
            spec = self._specs[key] = dataset.feature(key)
            self._shapes[key] = (shapes or {}).get(key, spec.shape)
            row_bytes = _row_bytes(spec)
            if spec.kind != "image" and row_bytes * int(ends[-1]) <= IN_MEMORY_BYTES:
                self._columns[key] = self._column(spec)
            elif dataset.is_video(key):
                self._check_files(key)
        self._videos = VideoPool(dataset.fps)
        self._cached: dict[str, CachedRows] = {}
        on_demand = [key for key in self._specs if key not in self._columns]
        self._cache = FrameCache(cache_folder, cache_bytes) if on_demand and cache_bytes else None
        # what lies in tables is read an episode at a time whatever is wanted of it, so it goes first
        if self._cache is not None:
            for key in sorted(on_demand, key=dataset.is_video):
                self._cached[key] = self._cache.allot(lengths, _row_bytes(self._specs[key]))

    def read(self, key: str, frames: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return the values of frames, each decoded once however often it is asked for.

        Args:
            key: The feature.
            frames: Places in the sequence, of any shape.

        Returns:
            [*frames.shape, ...].

        Raises:
            DatasetError: A file is damaged, or does not hold what the dataset says.
        """
        column = self._columns.get(key)
        if column is not None:
            chosen: NDArray[Any] = column[frames]
            return chosen
        places: NDArray[np.intp]
        distinct, places = np.unique(frames.astype(np.int64, copy=False), return_inverse=True)
        spec = self._specs[key]
        values = np.empty((len(distinct), *spec.shape), spec.dtype)
        groups = np.searchsorted(self._first, distinct, side="right") - 1
        breaks = np.flatnonzero(np.diff(groups)) + 1
        for first, last in zip([0, *breaks], [*breaks, len(distinct)], strict=True):
            group = int(groups[first])
            self._read_group(key, group, distinct[first:last] - self._first[group], values[first:last])
        values = values.reshape(len(distinct), *self._shapes[key])
        gathered: NDArray[Any] = values[places.reshape(frames.shape)]
        return gathered

    def close(self) -> None:
        """Close files and free the cache."""
        self._videos.close()
        if self._cache is not None:
            self._cache.close()

    def _read_group(self, key: str, group: int, numbers: NDArray[np.int64], into: NDArray[Any]) -> None:
        rows = self._cached.get(key)
        if rows is not None and group < rows.groups:
            everything = range(self._dataset.lengths[self._episodes[group]])
            if rows.fill(group, lambda: self._chunks(key, group, everything)):
                rows.read(group, numbers, into)
                return
        filled = 0
        for chunk in self._chunks(key, group, numbers.tolist()):
            into[filled : filled + len(chunk)] = chunk
            filled += len(chunk)

    def _chunks(self, key: str, group: int, numbers: Sequence[int]) -> Iterable[NDArray[Any]]:
        index, spec = self._episodes[group], self._specs[key]
        if not self._dataset.is_video(key):
            yield from self._dataset.chunks(index, key, numbers, _CHUNK)
            return
        path, start_s = self._dataset.video_of(index, key)
        with self._videos.reader(path, spec.shape) as reader:
            for first in range(0, len(numbers), _CHUNK):
                yield reader.read(start_s, numbers[first : first + _CHUNK])

    def _column(self, spec: FeatureSpec) -> NDArray[Any]:
        """Return a column of all frames; `EpisodeDataset.column` gives episodes in ascending order."""
        values = self._dataset.column(spec, episodes=self._episodes)
        chosen = sorted(set(self._episodes))
        if chosen != list(self._episodes):
            ends = np.cumsum([self._dataset.lengths[index] for index in chosen])
            parts = dict(zip(chosen, np.split(values, ends[:-1]), strict=True))
            values = np.concatenate([parts[index] for index in self._episodes])
        return values.reshape(len(values), *self._shapes[spec.key])

    def _check_order(self) -> None:
        """Refuse data files that do not hold the episodes' rows, all and in order."""
        plain = FeatureSpec("index", "vector", (1,), "int64", ("index",))
        places = self._dataset.column(plain, episodes=self._episodes)[:, 0]
        lengths = np.array(self._dataset.lengths)
        firsts = np.cumsum(lengths) - lengths
        chosen = sorted(set(self._episodes))
        expected = np.concatenate([np.arange(firsts[i], firsts[i] + lengths[i]) for i in chosen])
        if not np.array_equal(places, expected):
            raise DatasetError(
                f"{self._dataset.root}: its data files hold {len(places)} rows of the {len(chosen)} episodes in place "
                f"of the {len(expected)} in order."
            )

    def _check_files(self, key: str) -> None:
        for path in {self._dataset.video_of(index, key)[0] for index in self._episodes}:
            if not path.is_file():
                raise DatasetError(f"{path}: no such video file; the dataset is incomplete.")


def _row_bytes(spec: FeatureSpec) -> int:
    return prod(spec.shape) * np.dtype(spec.dtype).itemsize
