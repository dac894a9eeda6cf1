"""Episodes in folders of their own → the files of the format: shared data and videos, tables, statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.datasets import layout
from vla_ros.datasets.episode_buffer import DATA_NAME, video_name
from vla_ros.datasets.episode_table import EpisodeTable, column_spec
from vla_ros.datasets.journal import Part
from vla_ros.datasets.reader import EpisodeDataset
from vla_ros.datasets.statistics import (
    QUANTILE_NUMBERS,
    QUANTILES,
    PixelCounts,
    Statistics,
    aggregate_statistics,
    compute_statistics,
    stored_form,
)
from vla_ros.datasets.tables import RollingTable, data_schema, read_table, values_of, write_tasks
from vla_ros.datasets.videos import RollingVideo


@dataclass(frozen=True)
class Form:
    """How a dataset is stored.

    Attributes:
        features: Of the dataset.
        videos: Image features that are stored as video.
        fps: Frames per second.
        data_bytes, video_bytes: Sizes at which files roll.
    """

    features: Mapping[str, FeatureSpec]
    videos: Sequence[str]
    fps: int
    data_bytes: int
    video_bytes: int


def assemble(
    folder: Path, parts: Sequence[Part], form: Form, tasks: Sequence[str], old: EpisodeDataset | None
) -> dict[str, Any]:
    """Write all files of a dataset but ``info.json`` and ``stats.json``.

    Args:
        folder: Of the dataset; holds the files of `old` already.
        parts: The new episodes, in order.
        form: How to store them.
        tasks: Task strings by task_index.
        old: The dataset that is added to.

    Returns:
        The content of ``stats.json``.
    """
    features = form.features
    numbers = {"": 0, "episodes": 0} if old is None else old.next_file_numbers()
    schema = data_schema(features, images=not form.videos)
    data = RollingTable(folder, layout.DATA_PATH, schema, form.data_bytes, numbers[""])
    films = {key: RollingVideo(folder, key, form.fps, form.video_bytes, numbers.get(key, 0)) for key in form.videos}
    episodes = EpisodeTable(folder, features, form.data_bytes, numbers["episodes"])
    images = [key for key, spec in features.items() if spec.kind == "image"]
    episode, index = (0, 0) if old is None else (old.n_episodes, old.n_frames)
    for part in parts:
        address = data.address_for(part.nbytes)
        groups = pq.ParquetFile(part.folder / DATA_NAME)
        for number in range(groups.num_row_groups):
            data.write(groups.read_row_group(number).cast(schema))
        row: dict[str, Any] = {
            "episode_index": episode,
            "tasks": [part.task],
            "length": part.length,
            "data/chunk_index": address.chunk_index,
            "data/file_index": address.file_index,
            "dataset_from_index": index,
            "dataset_to_index": index + part.length,
        }
        for key, film in films.items():
            place = film.add(part.folder / video_name(images.index(key)), part.length)
            row |= {f"videos/{key}/{name}": value for name, value in place.items()}
        episodes.write(row, part.statistics)
        episode, index = episode + 1, index + part.length
    data.close()
    episodes.close()
    for film in films.values():
        film.close()
    write_tasks(folder / layout.TASKS_PATH, tasks)
    return _total_statistics(parts, features, old)


def _total_statistics(
    parts: Sequence[Part], features: Mapping[str, FeatureSpec], old: EpisodeDataset | None
) -> dict[str, Any]:
    """Statistics of the whole: moments from the episodes, quantiles from the rows themselves.

    Pixels of episodes appended to are not counted again; image quantiles are then merged from those of each.
    """
    own: dict[str, list[Statistics]] = {}
    before = [] if old is None else [old.episode_statistics(index) for index in range(old.n_episodes)]
    for statistics in [*before, *(part.statistics for part in parts)]:
        for key, value in statistics.items():
            own.setdefault(key, []).append(value)
    frames = sum(part.length for part in parts) + (0 if old is None else old.n_frames)
    result: dict[str, Any] = {}
    for key, values in own.items():
        spec = column_spec(key, features)
        if spec.kind == "image":
            total = aggregate_statistics(values) if old is not None else _pixels(parts, key).statistics()
        else:
            stride = max(1, frames * layout.flat_size(spec) // QUANTILE_NUMBERS)
            exact = compute_statistics({key: _column(parts, spec, old, stride)}, {key: spec})[key]
            total = aggregate_statistics(values) | {name: exact[name] for name in QUANTILES}
        result[key] = stored_form(total, spec)
    return result


def _pixels(parts: Sequence[Part], key: str) -> PixelCounts:
    total = PixelCounts()
    for part in parts:
        total.merge(part.pixels(key))
    return total


def _column(parts: Sequence[Part], spec: FeatureSpec, old: EpisodeDataset | None, stride: int) -> NDArray[Any]:
    """Return every `stride`-th frame's value of a feature, of old and new episodes."""
    columns = [] if old is None else [old.column(spec, stride)]
    passed = 0 if old is None else old.n_frames
    for part in parts:
        path = part.folder / DATA_NAME
        values = values_of(read_table(path, [spec.key])[spec.key], spec, path)
        columns.append(values[-passed % stride :: stride].copy())
        passed += len(values)
    return np.concatenate(columns)
