"""Keeps of a damaged dataset the episodes before the first one that is not whole."""

from pathlib import Path

from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools.edits import new_like
from vla_ros.dataset_tools.rewrite import NewDataset, write_dataset
from vla_ros.datasets import EpisodeDataset
from vla_ros.datasets.remux import inspect_stretch


def repair(root: Path, target: Path | None = None) -> NewDataset:
    """Write the verified prefix of a dataset: episodes whose metadata, rows and video packets are as they should be.

    Args:
        root: The dataset.
        target: The new one; None gives it the name of the old one, which is kept as ``NAME_old``.

    Raises:
        DatasetError: The first episode is not whole, or what describes the dataset is missing.
    """
    dataset = EpisodeDataset(root, without_stats=True, prefix=True)
    whole, reason = _whole(dataset)
    if not whole:
        raise DatasetError(f"{root}: the first episode is not whole, so nothing can be kept: {reason or 'no metadata'}")
    new = new_like(dataset, target, range(whole))
    new.notes.append(f"{root}: {whole} episodes are whole{f'; the next is not: {reason}' if reason else ''}")
    write_dataset(new)
    return new


def _whole(dataset: EpisodeDataset) -> tuple[int, str]:
    """Return how many episodes are whole, and what is wrong with the next, empty where the metadata ends there."""
    for index in range(dataset.n_episodes):
        new = new_like(dataset, dataset.root, [index])
        episode = new.episodes[0]
        try:
            episode.table()
            episode.task_of_frames()
            episode.statistics()
            for stretch in episode.videos.values():
                inspect_stretch(stretch, dataset.fps)
        except DatasetError as reason:
            return index, str(reason)
    return dataset.n_episodes, ""
