"""The edits of a dataset: merge, split, delete episodes, remove features, change tasks, images to video.

Names and behaviour are those that users of LeRobot know. Each writes a new dataset; without a target the new one takes
the name of the one read, which is kept as ``NAME_old``.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DatasetError, nearest_name
from vla_ros.dataset_tools.rewrite import NewDataset, check_target, write_dataset
from vla_ros.dataset_tools.sources import EpisodeSource, episode_source, feature_entries
from vla_ros.datasets import EpisodeDataset
from vla_ros.datasets.checks import read_json
from vla_ros.datasets.layout import CONTRACT_HASH_PATH, CONTRACT_PATH, codec_of, feature_entry

REPORT_PATH = "meta/conversion_report.json"


def new_like(
    dataset: EpisodeDataset, target: Path | None, episodes: Sequence[int], keys: Collection[str] | None = None
) -> NewDataset:
    """Return what makes a dataset of some episodes and features of another; `target` None replaces it."""
    entries = {key: entry for key, entry in feature_entries(dataset).items() if keys is None or key in keys}
    return NewDataset(
        root=dataset.root if target is None else target,
        entries=entries,
        fps=dataset.fps,
        robot_type=dataset.robot_type,
        episodes=[episode_source(dataset, index, list(entries)) for index in episodes],
        task_order=dataset.tasks,
        files=_files([(dataset, episodes)]),
        replace=target is None,
    )


def delete_episodes(root: Path, episodes: Collection[int], target: Path | None = None) -> NewDataset:
    """Write a dataset without some episodes; the others are numbered anew.

    Raises:
        DatasetError: There is no such episode, or none would be left.
    """
    dataset = EpisodeDataset(root)
    if not episodes:
        raise DatasetError(f"{root}: no episode to delete was given.")
    _check_episodes(dataset, episodes)
    kept = [index for index in range(dataset.n_episodes) if index not in set(episodes)]
    return _written(new_like(dataset, target, kept))


def split(root: Path, parts: Mapping[str, float | Sequence[int]], target: Path | None = None) -> dict[str, NewDataset]:
    """Write a dataset for each part, named as the target with ``_PART`` appended; the one read stays as it is.

    Args:
        root: The dataset.
        parts: Name → ratio of the episodes, taken in order, or their numbers.
        target: Begins the names; the dataset's own by default.

    Raises:
        DatasetError: Ratios sum to more than 1, a part is empty, or an episode is in two parts.
    """
    dataset = EpisodeDataset(root)
    chosen = _parts(dataset, parts)
    base = dataset.root if target is None else target
    news = {
        name: new_like(dataset, base.with_name(f"{base.name}_{name}"), episodes) for name, episodes in chosen.items()
    }
    for new in news.values():
        check_target(new)
    return {name: _written(new) for name, new in news.items()}


def _parts(dataset: EpisodeDataset, parts: Mapping[str, float | Sequence[int]]) -> dict[str, list[int]]:
    ratios = [part for part in parts.values() if isinstance(part, (int, float))]
    if not parts or (ratios and len(ratios) != len(parts)):
        raise DatasetError(f"{dataset.root}: a split is given by ratios of all parts or by the episodes of all parts.")
    if any(not 0 < ratio <= 1 for ratio in ratios) or sum(ratios) > 1 + 1e-9:
        raise DatasetError(f"{dataset.root}: ratios of a split are above 0 and sum to at most 1, got {ratios}.")
    result: dict[str, list[int]] = {}
    total, first = 0.0, 0
    for name, part in parts.items():
        if isinstance(part, (int, float)):
            total += part
            last = round(total * dataset.n_episodes)
            result[name] = list(range(first, last))
            first = last
        else:
            _check_episodes(dataset, part)
            result[name] = list(part)
        if not result[name]:
            raise DatasetError(f"{dataset.root}: part '{name}' would have none of {dataset.n_episodes} episodes.")
    every = [index for part in result.values() for index in part]
    if len(set(every)) != len(every):
        twice = next(index for index in every if every.count(index) > 1)
        raise DatasetError(f"{dataset.root}: episode {twice} would be in two parts.")
    return result


def merge(roots: Sequence[Path], target: Path) -> NewDataset:
    """Write the episodes of several datasets, one after the other, into one; tasks of the same words are one.

    Raises:
        DatasetError: Frame rate, robot or a feature differ.
    """
    if not roots:
        raise DatasetError("no dataset to merge was given.")
    datasets = [EpisodeDataset(root) for root in roots]
    first = datasets[0]
    entries = feature_entries(first)
    notes: list[str] = []
    for other in datasets[1:]:
        _check_alike(first, other, notes)
    episodes = [
        episode_source(dataset, index, list(entries)) for dataset in datasets for index in range(dataset.n_episodes)
    ]
    files = _files([(dataset, range(dataset.n_episodes)) for dataset in datasets])
    if len({dataset.contract_hash for dataset in datasets}) > 1:
        notes.append("the datasets have different contracts; the merged one has none")
    return _written(
        NewDataset(
            root=target,
            entries=entries,
            fps=first.fps,
            robot_type=first.robot_type,
            episodes=episodes,
            task_order=list(dict.fromkeys(task for dataset in datasets for task in dataset.tasks)),
            files=files,
            notes=notes,
        )
    )


def _check_alike(first: EpisodeDataset, other: EpisodeDataset, notes: list[str]) -> None:
    for what, one, two in (
        ("fps", first.fps, other.fps),
        ("robot_type", first.robot_type, other.robot_type),
    ):
        if one != two:
            raise DatasetError(f"{other.root}: {what} is {two!r}, that of {first.root} {one!r}; they cannot be merged.")
    own, others = feature_entries(first), feature_entries(other)
    lacking = [key for key in own if key not in others] + [key for key in others if key not in own]
    if lacking:
        raise DatasetError(
            f"{first.root} and {other.root}: only one has the feature '{lacking[0]}'; remove it there first "
            "(vla_ros dataset remove-feature)."
        )
    for key, entry in own.items():
        for field in ("dtype", "shape", "names"):
            if entry.get(field) != others[key].get(field):
                raise DatasetError(
                    f"{other.root}: {field} of '{key}' is {str(others[key].get(field))[:100]}, in {first.root} "
                    f"{str(entry.get(field))[:100]}; they cannot be merged."
                )
        codecs = [(one.get("info") or {}).get("video.codec") for one in (entry, others[key])]
        if codecs[0] != codecs[1]:
            notes.append(
                f"'{key}' is {codecs[1]} in {other.root} and stays so; info.json says {codecs[0]}, as {first.root}"
            )


def remove_feature(root: Path, keys: Collection[str], target: Path | None = None) -> NewDataset:
    """Write a dataset without some features.

    Raises:
        DatasetError: There is no such feature, or it is one that every dataset has.
    """
    dataset = EpisodeDataset(root)
    entries = feature_entries(dataset)
    if not keys:
        raise DatasetError(f"{root}: no feature to remove was given.")
    for key in keys:
        if key not in entries:
            raise DatasetError(
                f"{root}: has no feature '{key}' that can be removed; it has {', '.join(entries)[:500]}."
                f"{nearest_name(key, entries)}"
            )
    if set(keys) == set(entries):
        raise DatasetError(f"{root}: no feature would be left.")
    kept = [key for key in entries if key not in keys]
    return _written(new_like(dataset, target, range(dataset.n_episodes), kept))


def modify_tasks(
    root: Path,
    *,
    new_task: str | None = None,
    episode_tasks: Mapping[int, str] | None = None,
    renamed: Mapping[str, str] | None = None,
    target: Path | None = None,
) -> NewDataset:
    """Write a dataset with other instructions.

    Args:
        root: The dataset.
        new_task: Of all episodes that `episode_tasks` does not name.
        episode_tasks: Episode → its instruction.
        renamed: Old instruction → new one, wherever it stands.
        target: The new dataset; None replaces.

    Raises:
        DatasetError: Nothing is changed, an instruction is empty, or there is no such episode or instruction.
    """
    dataset = EpisodeDataset(root)
    of_episode, by_name = dict(episode_tasks or {}), dict(renamed or {})
    if new_task is None and not of_episode and not by_name:
        raise DatasetError(f"{root}: no new task was given.")
    _check_episodes(dataset, of_episode)
    for task in (*by_name.values(), *of_episode.values(), *([] if new_task is None else [new_task])):
        if not task.strip():
            raise DatasetError(f"{root}: a task must not be empty.")
    for task in by_name:
        if task not in dataset.tasks:
            raise DatasetError(f"{root}: has no task '{task[:100]}'.{nearest_name(task, dataset.tasks)}")

    def changed(index: int) -> Callable[[str], str]:
        given = of_episode.get(index, new_task)
        return lambda task: by_name.get(task, task) if given is None else given

    new = new_like(dataset, target, range(dataset.n_episodes))
    new.episodes = [_with_tasks(episode, changed(index)) for index, episode in enumerate(new.episodes)]
    new.task_order = [by_name.get(task, task) for task in dataset.tasks]
    return _written(new)


def _with_tasks(episode: EpisodeSource, change: Callable[[str], str]) -> EpisodeSource:
    def of_frames() -> list[str]:
        return [change(task) for task in episode.task_of_frames()]

    tasks = tuple(dict.fromkeys(change(task) for task in episode.tasks))
    return replace(episode, tasks=tasks, task_of_frames=of_frames)


def images_to_video(root: Path, codec: str = "av1", crf: int | None = None, target: Path | None = None) -> NewDataset:
    """Write a dataset whose images, stored one by one, are videos.

    Raises:
        DatasetError: No image is stored so, or a size does not fit the codec.
    """
    dataset = EpisodeDataset(root)
    keys = [key for key, entry in feature_entries(dataset).items() if entry["dtype"] == "image"]
    if not keys:
        raise DatasetError(f"{root}: has no feature of dtype image; its cameras are videos already, or there is none.")
    new = new_like(dataset, target, range(dataset.n_episodes))
    new.codec, new.crf = codec_of(codec), crf
    videos = {key: feature_entry(dataset.features[key], "video", dataset.fps, new.codec) for key in keys}
    new.entries = {**new.entries, **videos}
    numbers = [key for key, entry in new.entries.items() if entry["dtype"] != "video"]
    new.episodes = [
        replace(
            episode,
            table=lambda index=index: dataset.rows(index, numbers),  # type: ignore[misc]
            images={key: lambda index=index, key=key: _images(dataset, index, key) for key in keys},  # type: ignore[misc]
        )
        for index, episode in enumerate(new.episodes)
    ]
    return _written(new)


def _images(dataset: EpisodeDataset, index: int, key: str) -> Iterator[NDArray[np.uint8]]:
    for block in dataset.chunks(index, key, range(dataset.lengths[index]), 32):
        yield from block


def _written(new: NewDataset) -> NewDataset:
    write_dataset(new)
    return new


def _check_episodes(dataset: EpisodeDataset, episodes: Collection[int]) -> None:
    for index in episodes:
        if not 0 <= index < dataset.n_episodes:
            raise DatasetError(f"{dataset.root}: has no episode {index}; episodes are 0 to {dataset.n_episodes - 1}.")


def _files(sources: Sequence[tuple[EpisodeDataset, Sequence[int]]]) -> dict[str, bytes]:
    """Return the contract, where all sources have the same, and what the conversion reported of the episodes kept."""
    files: dict[str, bytes] = {}
    first = sources[0][0]
    if first.contract_path.is_file() and len({dataset.contract_hash for dataset, _ in sources}) == 1:
        for name in (CONTRACT_PATH, CONTRACT_HASH_PATH):
            if (first.root / name).is_file():
                files[name] = (first.root / name).read_bytes()
    reports = [(read_report(dataset.root), episodes) for dataset, episodes in sources]
    if all(report for report, _ in reports):
        kept = [_of_episodes(report, episodes) for report, episodes in reports]
        every = [{**entry, "episode_index": n} for n, entry in enumerate(e for part in kept for e in part)]
        n_frames = sum(int(entry.get("frames", 0)) for entry in every)
        content = {**reports[0][0], "episodes": every, "n_frames": n_frames}
        if len(every) == sum(len(episodes) for _, episodes in sources):
            files[REPORT_PATH] = (json.dumps(content, indent=2) + "\n").encode()
    return files


def read_report(root: Path) -> dict[str, Any]:
    """Return a dataset's conversion report, empty where it has none that can be read."""
    try:
        return read_json(root / REPORT_PATH, finite=False)
    except DatasetError:
        return {}


def _of_episodes(report: Mapping[str, Any], episodes: Sequence[int]) -> list[dict[str, Any]]:
    entries = report.get("episodes")
    if not isinstance(entries, list):
        return []
    by_index = {e["episode_index"]: e for e in entries if isinstance(e, dict) and "episode_index" in e}
    return [by_index[index] for index in episodes if index in by_index]
