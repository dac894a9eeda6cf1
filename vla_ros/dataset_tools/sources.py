"""Episodes of a dataset as an edit takes them: rows as they are stored, videos as stretches, statistics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.datasets import STATISTICS, EpisodeDataset, Statistics, compute_statistics
from vla_ros.datasets.layout import INDEX_FEATURES
from vla_ros.datasets.remux import Stretch


@dataclass(frozen=True)
class EpisodeSource:
    """One episode that goes into a new dataset.

    Attributes:
        place: Dataset and episode, for messages.
        length: Frames.
        tasks: Instructions that it has.
        task_of_frames: Returns that of every frame, [L].
        table: Returns the features that lie in the tables, a pyarrow table.
        videos: Video feature → where its frames are.
        images: Feature that becomes a video → returns its images, uint8 [h, w, 3].
        statistics: Returns those of every feature.
    """

    place: str
    length: int
    tasks: tuple[str, ...]
    task_of_frames: Callable[[], Sequence[str]]
    table: Callable[[], Any]
    videos: Mapping[str, Stretch]
    statistics: Callable[[], dict[str, Statistics]]
    images: Mapping[str, Callable[[], Iterator[NDArray[np.uint8]]]] = field(default_factory=dict)


def feature_entries(dataset: EpisodeDataset) -> dict[str, dict[str, Any]]:
    """Return the entries of ``info.json`` without the columns that every dataset has; text features are kept."""
    return {key: entry for key, entry in dataset.info["features"].items() if key not in INDEX_FEATURES}


def episode_source(dataset: EpisodeDataset, index: int, keys: Sequence[str]) -> EpisodeSource:
    """Return an episode of a dataset, with some of its features.

    Raises:
        DatasetError: There is no such episode.
    """
    entries = dataset.info["features"]
    in_table = [key for key in keys if entries[key]["dtype"] != "video"]
    videos = {}
    for key in keys:
        if entries[key]["dtype"] == "video":
            path, start_s = dataset.video_of(index, key)
            videos[key] = Stretch(path, start_s, dataset.lengths[index])

    def statistics() -> dict[str, Statistics]:
        stored = dataset.episode_statistics(index)
        specs = {key: dataset.features[key] for key in keys if key in dataset.features}
        return complete_statistics(stored, specs, lambda key: dataset.episode(index, [key]).values[key])

    return EpisodeSource(
        place=f"{dataset.root}: episode {index}",
        length=dataset.lengths[index],
        tasks=tuple(dataset.tasks_of(index)),
        task_of_frames=lambda: dataset.tasks_of_frames(index),
        table=lambda: dataset.rows(index, in_table),
        videos=videos,
        statistics=statistics,
    )


def complete_statistics(
    stored: Mapping[str, Statistics], specs: Mapping[str, FeatureSpec], read: Callable[[str], Any]
) -> dict[str, Statistics]:
    """Return the statistics of every feature, computed from its values where some are missing.

    Args:
        stored: What the dataset has.
        specs: The features.
        read: Returns a feature's values, [L, ...].
    """
    result: dict[str, Statistics] = {}
    for key, spec in specs.items():
        own = stored.get(key, {})
        if any(name not in own for name in STATISTICS):
            own = compute_statistics({key: read(key)}, {key: spec})[key] | own
        result[key] = {name: own[name] for name in STATISTICS}
    return result
