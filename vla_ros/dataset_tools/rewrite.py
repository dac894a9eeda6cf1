"""Writes a dataset from episodes of others: rows as they were, videos joined without encoding again.

Everything goes into a hidden folder beside the target, which takes its name when it is whole and was verified. What a
killed command leaves is that folder; the same command removes it and starts again.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools.film import Film
from vla_ros.dataset_tools.sources import EpisodeSource
from vla_ros.datasets import EpisodeDataset, WriteError, compute_statistics, verify_dataset
from vla_ros.datasets.checks import check_feature
from vla_ros.datasets.episode_table import EpisodeTable, column_spec
from vla_ros.datasets.layout import (
    DATA_FILE_MB,
    DATA_PATH,
    INDEX_FEATURES,
    INFO_PATH,
    STATS_PATH,
    TASKS_PATH,
    VIDEO_FILE_MB,
    Codec,
    feature_of,
    info_content,
    is_read,
)
from vla_ros.datasets.statistics import Statistics, stored_form
from vla_ros.datasets.tables import RollingTable, write_tasks

_MB = 1024 * 1024


@dataclass
class NewDataset:
    """What is to be written.

    Attributes:
        root: Folder of the dataset.
        entries: Feature key → its entry in ``info.json``.
        fps: Frames per second.
        robot_type: Name of the robot.
        episodes: In order.
        task_order: Tasks in the order in which they are numbered, as far as they occur; others follow.
        files: Path within the dataset → content of further files.
        replace: The dataset that has this name now, which is the one read, is renamed to ``NAME_old``.
        codec: Of stretches that have to be encoded; None takes what each was.
        crf: Their quality, None for the codec's default.
        notes: Sentences on what was done otherwise than asked.
    """

    root: Path
    entries: Mapping[str, Mapping[str, Any]]
    fps: int
    robot_type: str
    episodes: Sequence[EpisodeSource]
    task_order: Sequence[str] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    replace: bool = False
    codec: Codec | None = None
    crf: int | None = None
    notes: list[str] = field(default_factory=list)


def write_dataset(new: NewDataset) -> EpisodeDataset:
    """Write a dataset, verify it, and give it its name.

    Raises:
        DatasetError: The target exists, there is no episode, or a source does not hold what it says.
        WriteError: The disk is full.
    """
    check_target(new)
    with _explained(new.root), _working_folder(new) as folder:
        _write(new, folder)
        verify_dataset(folder)
        _rename(new, folder)
    return EpisodeDataset(new.root)


def old_name(root: Path) -> Path:
    """Return what a dataset that is edited in place is called afterwards."""
    return root.with_name(f"{root.name}_old")


def check_target(new: NewDataset) -> None:
    """Refuse a target that exists, before anything is written.

    Raises:
        DatasetError: See there.
    """
    if not new.episodes:
        raise DatasetError(f"{new.root}: no episode would be left; a dataset has at least one.")
    if new.replace:
        if os.path.lexists(old_name(new.root)):
            raise DatasetError(
                f"{old_name(new.root)}: exists already, from an earlier edit; remove it or give --output a folder."
            )
    elif new.root.exists() and (not new.root.is_dir() or any(new.root.iterdir())):
        raise DatasetError(f"{new.root}: exists already; choose another folder or remove it.")


@contextmanager
def _working_folder(new: NewDataset) -> Iterator[Path]:
    """Give the hidden folder beside the target, empty; it is gone after an error."""
    folder = new.root.parent / f".{new.root.name}.partial-edit"
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            raise DatasetError(f"{folder}: another command writes the same dataset; wait for it.") from reason
        if existed:
            new.notes.append(f"{folder}: what a command that was killed left is removed")
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(lock)


def _write(new: NewDataset, folder: Path) -> None:
    specs = _specs(new)
    tasks = _tasks(new)
    films = {
        key: Film(folder, key, new, specs[key].shape, VIDEO_FILE_MB * _MB)
        for key, entry in new.entries.items()
        if entry["dtype"] == "video"
    }
    table = EpisodeTable(folder, specs, DATA_FILE_MB * _MB, 0)
    data: RollingTable | None = None
    schema: Any = None
    first = 0
    for number, episode in enumerate(new.episodes):
        numbers = [tasks.index(task) for task in episode.task_of_frames()]
        index = _index_columns(number, first, np.array(numbers, np.int64), new.fps)
        rows = _with_index(episode, index)
        if data is None:
            schema = rows.schema
            data = RollingTable(folder, DATA_PATH, schema, DATA_FILE_MB * _MB)
        rows = _cast(rows, schema, episode)
        address = data.address_for(rows.nbytes)
        data.write(rows)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": list(dict.fromkeys(tasks[task] for task in numbers)),
            "length": episode.length,
            "data/chunk_index": address.chunk_index,
            "data/file_index": address.file_index,
            "dataset_from_index": first,
            "dataset_to_index": first + episode.length,
        }
        for key, film in films.items():
            row |= {f"videos/{key}/{name}": value for name, value in _placed(film, episode, key).items()}
        table.write(row, episode.statistics() | compute_statistics(index, {}))
        first += episode.length
    if data is not None:
        data.close()
    table.close()
    for film in films.values():
        film.close()
    write_tasks(folder / TASKS_PATH, tasks)
    _describe(new, folder, len(tasks), first)


def _placed(film: Film, episode: EpisodeSource, key: str) -> dict[str, Any]:
    if key in episode.images:
        return film.add_images(episode.images[key](), episode.length)
    return film.add(episode.videos[key])


def _describe(new: NewDataset, folder: Path, n_tasks: int, n_frames: int) -> None:
    """Write info.json, the statistics of the whole, and what goes with the dataset."""
    has_video = any(entry["dtype"] == "video" for entry in new.entries.values())
    info = info_content(
        robot_type=new.robot_type,
        fps=new.fps,
        episodes=len(new.episodes),
        frames=n_frames,
        tasks=n_tasks,
        has_video=has_video,
        features={key: dict(entry) for key, entry in new.entries.items()},
    )
    (folder / INFO_PATH).write_text(json.dumps(info, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    written = EpisodeDataset(folder, without_stats=True)
    total: dict[str, Statistics] = written.statistics(range(written.n_episodes))
    for key in INDEX_FEATURES:
        spec = column_spec(key, {})
        total[key] = compute_statistics({key: written.column(spec)}, {key: spec})[key]
    specs = written.features
    stored = {key: stored_form(values, column_spec(key, specs)) for key, values in total.items()}
    (folder / STATS_PATH).write_text(json.dumps(stored) + "\n", encoding="utf-8")
    for name, content in new.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _specs(new: NewDataset) -> dict[str, FeatureSpec]:
    specs = {}
    for key, entry in new.entries.items():
        check_feature(key, entry, new.root)
        if is_read(entry):
            specs[key] = feature_of(key, entry, new.root)
    return specs


def _tasks(new: NewDataset) -> list[str]:
    used = dict.fromkeys(task for episode in new.episodes for task in episode.tasks)
    return [*(task for task in new.task_order if task in used), *(task for task in used if task not in new.task_order)]


def _index_columns(number: int, first: int, tasks: np.ndarray[Any, Any], fps: int) -> dict[str, np.ndarray[Any, Any]]:
    frames = np.arange(len(tasks), dtype=np.int64)
    return {
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(len(tasks), number, np.int64),
        "index": frames + first,
        "task_index": tasks,
    }


def _with_index(episode: EpisodeSource, index: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    rows = episode.table()
    columns = {name: rows[name] for name in rows.column_names}
    lengths = {len(index["index"]), *(len(column) for column in columns.values())}
    if lengths != {episode.length}:
        raise DatasetError(f"{episode.place}: has {sorted(lengths)} rows in place of {episode.length}.")
    return pa.table({**columns, **{name: pa.array(values) for name, values in index.items()}})


def _cast(rows: Any, schema: Any, episode: EpisodeSource) -> Any:
    """Return rows in the types of the first episode; values are never rounded."""
    if rows.schema == schema:
        return rows
    try:
        return rows.select(schema.names).cast(schema, safe=True)
    except (pa.ArrowException, KeyError, ValueError) as reason:
        raise DatasetError(
            f"{episode.place}: its columns have other types than those of the first episode: "
            f"{' '.join(str(reason).split())[:200]}"
        ) from reason


def _rename(new: NewDataset, folder: Path) -> None:
    if new.replace:
        new.root.rename(old_name(new.root))
    elif new.root.exists():
        new.root.rmdir()  # empty since the start, or this refuses
    folder.rename(new.root)


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turn what goes wrong with the disk into one sentence."""
    try:
        yield
    except (OSError, av.FFmpegError, pa.ArrowException) as reason:
        full = getattr(reason, "errno", None) == errno.ENOSPC or "No space left" in str(reason)
        said = "no space left on the device" if full else " ".join(str(reason).split())[:200]
        raise WriteError(f"{root}: cannot be written: {said}; nothing of it is left.") from reason
