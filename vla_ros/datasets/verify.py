"""Checks a finished dataset against itself: rows, files and every frame's time. Decodes no pixels."""

from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import layout
from vla_ros.datasets.images import frame_times
from vla_ros.datasets.reader import EpisodeDataset


def verify_dataset(root: Path) -> EpisodeDataset:
    """Open a dataset and check that it holds what it says.

    Every row has its place in the global index and the timestamp frame_index/fps; every video holds exactly
    as many frames as the rows that refer to it, frame k at exactly k/fps.

    Raises:
        DatasetError: It does not; says which file.
    """
    dataset = EpisodeDataset(root)
    columns = {
        key: dataset.column(FeatureSpec(key, "vector", (1,), dtype, (key,)))[:, 0]
        for key, dtype in layout.INDEX_FEATURES.items()
    }
    frame_index = np.concatenate([np.arange(length) for length in dataset.lengths])
    expected = {
        "index": np.arange(dataset.n_frames),
        "episode_index": np.repeat(np.arange(dataset.n_episodes), dataset.lengths),
        "frame_index": frame_index,
        "timestamp": (frame_index / dataset.fps).astype(np.float32),
    }
    for key, values in expected.items():
        if not np.array_equal(columns[key], values):
            raise DatasetError(
                f"{root}: column '{key}' of the data files does not fit the {dataset.n_frames} frames "
                "of the episode tables."
            )
    if columns["task_index"].max() >= len(dataset.tasks):
        raise DatasetError(f"{root}: task_index {columns['task_index'].max()} is not in {layout.TASKS_PATH}.")
    for path, frames in _frames_by_video(dataset).items():
        times = frame_times(path)
        if times != [Fraction(k, dataset.fps) for k in range(frames)]:
            raise DatasetError(f"{path}: must hold {frames} frames at exactly k/{dataset.fps} s, holds {len(times)}.")
    return dataset


def _frames_by_video(dataset: EpisodeDataset) -> dict[Path, int]:
    """Return how many frames each video file must hold."""
    frames: dict[Path, int] = defaultdict(int)
    for index, length in enumerate(dataset.lengths):
        for path in dataset.video_files(index):
            frames[path] += length
    return frames
