"""A dataset of LeRobot's format v2.0 or v2.1 becomes one of v3.0: one file an episode there, shared files here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools.rewrite import NewDataset, write_dataset
from vla_ros.dataset_tools.sources import EpisodeSource, complete_statistics
from vla_ros.datasets import Statistics
from vla_ros.datasets.checks import check_feature, check_statistics, read_json
from vla_ros.datasets.images import read_frames
from vla_ros.datasets.layout import INDEX_FEATURES, INFO_PATH, feature_of, is_read
from vla_ros.datasets.remux import Stretch
from vla_ros.datasets.statistics import from_stored
from vla_ros.datasets.tables import read_table, values_of

DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
VERSIONS = ("v2.0", "v2.1")
_MAX_LINE = 64 * 1024**2


def upgrade(root: Path, target: Path | None = None) -> NewDataset:
    """Write a dataset of v2.0 or v2.1 as v3.0; rows and video packets stay as they are.

    Args:
        root: The old dataset.
        target: The new one; None gives it the name of the old one, which is kept as ``NAME_old``.

    Raises:
        DatasetError: It is no dataset of these versions, or incomplete.
    """
    old = _Old(Path(root))
    new = NewDataset(
        root=old.root if target is None else target,
        entries=old.entries,
        fps=old.fps,
        robot_type=str(old.info.get("robot_type") or ""),
        episodes=[old.episode(row) for row in old.rows],
        task_order=[old.tasks[number] for number in sorted(old.tasks)],
        replace=target is None,
    )
    write_dataset(new)
    return new


class _Old:
    """An old dataset: what its files say."""

    def __init__(self, root: Path) -> None:
        self.root = root
        source = root / INFO_PATH
        self.info = read_json(source)
        version = self.info.get("codebase_version")
        if version not in VERSIONS:
            raise DatasetError(
                f"{source}: codebase_version is {str(version)[:40]!r}; upgrade reads {' and '.join(VERSIONS)}."
            )
        fps, features = self.info.get("fps"), self.info.get("features")
        if not isinstance(fps, int | float) or fps != int(fps) or not 1 <= fps <= 1000:
            raise DatasetError(f"{source}: fps must be an integer from 1 to 1000, got {str(fps)[:40]}.")
        if not isinstance(features, dict) or not all(isinstance(entry, dict) for entry in features.values()):
            raise DatasetError(f"{source}: features must be a mapping of mappings.")
        self.fps = int(fps)
        self.entries = {key: _entry(key, entry, source) for key, entry in features.items() if key not in INDEX_FEATURES}
        for name, known in (("data_path", DATA_PATH), ("video_path", VIDEO_PATH)):
            if self.info.get(name) not in (None, known):
                raise DatasetError(f"{source}: {name} is {str(self.info[name])[:120]!r}, expected {known!r}.")
        chunk = self.info.get("chunks_size", 1000)
        if not isinstance(chunk, int) or chunk < 1:
            raise DatasetError(f"{source}: chunks_size must be an integer of at least 1, got {str(chunk)[:40]}.")
        self._chunk = chunk
        self.specs: dict[str, FeatureSpec] = {
            key: feature_of(key, entry, source) for key, entry in self.entries.items() if is_read(entry)
        }
        self.tasks = self._tasks()
        self.rows = self._rows()
        path = root / "meta/episodes_stats.jsonl"
        self._stats = {row.get("episode_index"): row.get("stats") for row in (_lines(path) if path.is_file() else [])}

    def _tasks(self) -> dict[int, str]:
        path = self.root / "meta/tasks.jsonl"
        tasks = {row.get("task_index"): row.get("task") for row in _lines(path)}
        if not all(isinstance(n, int) and isinstance(task, str) and task for n, task in tasks.items()):
            raise DatasetError(f"{path}: every line must have task_index and task.")
        return tasks  # type: ignore[return-value]

    def _rows(self) -> list[dict[str, Any]]:
        path = self.root / "meta/episodes.jsonl"
        rows = sorted(_lines(path), key=lambda row: str(row.get("episode_index")).zfill(12))
        for number, row in enumerate(rows):
            tasks, length = row.get("tasks"), row.get("length")
            if row.get("episode_index") != number or not isinstance(length, int) or length < 1:
                raise DatasetError(
                    f"{path}: expected episode {number} with its length, got {str(row)[:120]}; the episodes must be "
                    "numbered without gaps."
                )
            if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) for task in tasks):
                raise DatasetError(f"{path}: episode {number} must have tasks, got {str(tasks)[:80]}.")
        if self.info.get("total_episodes", len(rows)) != len(rows):
            raise DatasetError(
                f"{path}: holds {len(rows)} episodes, info.json says {str(self.info['total_episodes'])[:20]}."
            )
        return rows

    def episode(self, row: Mapping[str, Any]) -> EpisodeSource:
        """Return one episode, whose files are read when they are asked for."""
        number, length = int(row["episode_index"]), int(row["length"])
        place = {"episode_chunk": number // self._chunk, "episode_index": number}
        path = self.root / DATA_PATH.format(**place)
        names = [key for key, entry in self.entries.items() if entry["dtype"] != "video"]
        videos = {
            key: Stretch(self.root / VIDEO_PATH.format(**place, video_key=key), 0.0, length)
            for key, entry in self.entries.items()
            if entry["dtype"] == "video"
        }

        def task_of_frames() -> list[str]:
            column = read_table(path, ["task_index"])["task_index"].to_pylist()
            unknown = [task for task in column if task not in self.tasks]
            if unknown:
                raise DatasetError(f"{path}: task_index {str(unknown[0])[:20]} is not in meta/tasks.jsonl.")
            return [self.tasks[task] for task in column]

        def read(key: str) -> Any:
            spec = self.specs[key]
            if key in videos:
                return read_frames(videos[key].path, 0.0, length, self.fps, spec.shape)
            return values_of(read_table(path, [key])[key], spec, path)

        return EpisodeSource(
            place=f"{self.root}: episode {number}",
            length=length,
            tasks=tuple(dict.fromkeys([*row["tasks"], *task_of_frames()])),
            task_of_frames=task_of_frames,
            table=lambda: read_table(path, names),
            videos=videos,
            statistics=lambda: complete_statistics(self._stored(number), self.specs, read),
        )

    def _stored(self, number: int) -> dict[str, Statistics]:
        stored = self._stats.get(number)
        if not isinstance(stored, dict):
            return {}
        result = {}
        for key, spec in self.specs.items():
            if key in stored:
                check_statistics(stored[key], spec, f"{self.root}: statistics of '{key}' in episode {number}")
                result[key] = from_stored(stored[key], spec)
        return result


def _entry(key: str, entry: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return a feature as v3.0 says it: v2.0 called what is known of a video ``video_info``."""
    check_feature(key, entry, source)
    if "/" in key or key in (".", ".."):
        raise DatasetError(f"{source}: '{key[:80]}' cannot be a feature's key.")
    own = dict(entry)
    about = own.pop("video_info", None)
    if about is not None and "info" not in own:
        own["info"] = about
    return own


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; the dataset is incomplete.")
    rows = []
    try:
        with path.open(encoding="utf-8") as file:
            while line := file.readline(_MAX_LINE):
                if line.strip():
                    rows.append(json.loads(line))
    except (ValueError, RecursionError, OSError) as reason:
        raise DatasetError(f"{path}: not readable as JSON lines: {' '.join(str(reason).split())[:120]}") from reason
    if not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{path}: every line must be an object.")
    return rows
