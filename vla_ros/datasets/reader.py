"""Opens a LeRobotDataset v3.0 and gives its episodes as arrays. Reads only; strict about what it finds."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec, RobotContract, is_hash_of, load_contract
from vla_ros.data_types import DatasetError, nearest_name
from vla_ros.datasets import layout
from vla_ros.datasets.images import read_frames
from vla_ros.datasets.layout import FileAddress
from vla_ros.datasets.statistics import Statistics, aggregate_statistics, from_stored
from vla_ros.datasets.tables import read_table, read_tasks, values_of


@dataclass(frozen=True)
class Episode:
    """One episode in memory.

    Attributes:
        index: Its number in the dataset.
        values: Feature key → [L, ...]; images uint8 [L, h, w, 3], RGB.
        task: The instruction.
    """

    index: int
    values: dict[str, NDArray[Any]]
    task: str


class EpisodeDataset:
    """A dataset on disk.

    Args:
        root: Its folder.
        without_stats: Open a dataset whose ``stats.json`` is still to be written.

    Attributes:
        info: Content of ``info.json``.
        fps: Frames per second.
        robot_type: Name of the robot, empty where the dataset does not say.
        features: Feature key → feature, without the columns of the format (timestamp, indices).
        lengths: Frames of each episode.
        tasks: Task strings by task_index.

    Raises:
        DatasetError: No dataset, another version of the format, a file is missing, or files contradict each other.
    """

    def __init__(self, root: str | Path, without_stats: bool = False) -> None:
        self.root = Path(root)
        self.info = _read_json(self.root / layout.INFO_PATH)
        self._check_info()
        self.fps = int(self.info["fps"])
        self.robot_type = str(self.info.get("robot_type") or "")
        source = self.root / layout.INFO_PATH
        self.features: dict[str, FeatureSpec] = {
            key: layout.feature_of(key, entry, source)
            for key, entry in self.info["features"].items()
            if key not in layout.INDEX_FEATURES and entry.get("dtype") != "string"
        }
        self.tasks = read_tasks(self.root / layout.TASKS_PATH)
        self._rows = self._read_episode_rows()
        self.lengths: tuple[int, ...] = tuple(row["length"] for row in self._rows)
        self._check_rows()
        self.stats: dict[str, Statistics] = {} if without_stats else self._read_stats()

    def _check_info(self) -> None:
        source, info = self.root / layout.INFO_PATH, self.info
        version = info.get("codebase_version")
        if version != layout.CODEBASE_VERSION:
            raise DatasetError(
                f"{source}: codebase_version is {version!r}, this reads '{layout.CODEBASE_VERSION}'; "
                "convert the dataset with LeRobot's own converter or record it again."
            )
        for field in ("fps", "features", "total_episodes", "total_frames", "data_path"):
            if info.get(field) is None:
                raise DatasetError(f"{source}: lacks the field '{field}'.")
        if int(info["fps"]) != info["fps"] or info["fps"] < 1:
            raise DatasetError(f"{source}: fps must be an integer of at least 1, got {info['fps']!r}.")

    def _read_episode_rows(self) -> list[dict[str, Any]]:
        files = sorted((self.root / "meta/episodes").glob("chunk-*/file-*.parquet"))
        if not files:
            raise DatasetError(f"{self.root / 'meta/episodes'}: no episode table; the dataset is incomplete.")
        tables = []
        for path in files:
            table = read_table(path)
            if path == files[0]:
                self._statistics_columns = [name for name in table.column_names if name.startswith("stats/")]
            tables.append(table.select([name for name in table.column_names if not name.startswith("stats/")]))
        self._episode_files = files
        rows = pa.concat_tables(tables, promote_options="default").to_pylist()
        return sorted(rows, key=lambda row: int(row["episode_index"]))

    def _check_rows(self) -> None:
        """Episodes must be numbered without gaps, and lie end to end in the global index."""
        place, end = self.root / "meta/episodes", 0
        for index, row in enumerate(self._rows):
            first, last = row["dataset_from_index"], row["dataset_to_index"]
            if row["episode_index"] != index or first != end or last - first != row["length"] or row["length"] < 1:
                raise DatasetError(
                    f"{place}: episode {row['episode_index']} covers rows {first} to {last} with length "
                    f"{row['length']}, expected episode {index} from row {end}."
                )
            end = last
        for field, expected in (("total_episodes", len(self._rows)), ("total_frames", end)):
            if self.info[field] != expected:
                raise DatasetError(
                    f"{self.root / layout.INFO_PATH}: {field} is {self.info[field]}, "
                    f"the episode tables hold {expected}."
                )

    def _read_stats(self) -> dict[str, Statistics]:
        stored = _read_json(self.root / layout.STATS_PATH)
        missing = [key for key in self.features if key not in stored]
        if missing:
            raise DatasetError(f"{self.root / layout.STATS_PATH}: has no statistics of '{missing[0]}'.")
        return {key: from_stored(stored[key], spec) for key, spec in self.features.items()}

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return len(self._rows)

    @property
    def n_frames(self) -> int:
        """Number of frames of all episodes together."""
        return sum(self.lengths)

    @property
    def contract_path(self) -> Path:
        """Where the contract that the dataset was made with lies, if it was made with one."""
        return self.root / layout.CONTRACT_PATH

    @property
    def contract_hash(self) -> str:
        """Hash of that contract, empty when there is none."""
        path = self.root / layout.CONTRACT_HASH_PATH
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def fingerprint(self) -> str:
        """Return 16 digits over its tables and statistics, which no change of its data leaves alone."""
        digest = hashlib.sha256()
        for path in sorted((self.root / "meta").rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self.root)}:{path.stat().st_size}:".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def contract(self) -> RobotContract:
        """Return the contract that the dataset was made with.

        Raises:
            DatasetError: There is none, or it was changed since.
            ContractError: It is malformed.
        """
        if not self.contract_path.is_file():
            raise DatasetError(
                f"{self.contract_path}: no such file; this dataset was not converted from bags of a contract."
            )
        contract = load_contract(self.contract_path)
        if not is_hash_of(self.contract_hash, contract, self.root):
            raise DatasetError(
                f"{self.contract_path}: hash {contract.hash} differs from {self.contract_hash} in "
                f"{layout.CONTRACT_HASH_PATH}; the contract was edited after the conversion."
            )
        return contract

    def task(self, index: int) -> str:
        """Return the instruction of one episode; where it has several, the first."""
        return str(self._row(index)["tasks"][0])

    def episode(self, index: int, keys: Collection[str] | None = None) -> Episode:
        """Read one episode.

        Args:
            index: Its number.
            keys: Features to read; None reads all.

        Raises:
            DatasetError: No such episode or feature, or its files do not hold what they should.
        """
        row = self._row(index)
        specs = [self.feature(key) for key in (self.features if keys is None else keys)]
        in_table = [spec for spec in specs if self.info["features"][spec.key]["dtype"] != "video"]
        path = self._file(FileAddress(row["data/chunk_index"], row["data/file_index"]), self.info["data_path"])
        names = [spec.key for spec in in_table]
        table = read_table(path, [*names, "index"], filters=[("episode_index", "==", index)])
        positions = table["index"].to_numpy()
        if not np.array_equal(positions, np.arange(row["dataset_from_index"], row["dataset_to_index"])):
            raise DatasetError(
                f"{path}: holds {len(positions)} rows of episode {index} in place of the {row['length']} in order."
            )
        values = {spec.key: values_of(table[spec.key], spec, path) for spec in in_table}
        for spec in specs:
            if spec.key not in values:
                values[spec.key] = self._video(row, spec)
        return Episode(index, {spec.key: values[spec.key] for spec in specs}, self.task(index))

    def _video(self, row: dict[str, Any], spec: FeatureSpec) -> NDArray[np.uint8]:
        start_s = row[f"videos/{spec.key}/from_timestamp"]
        return read_frames(self._video_file(row, spec.key), start_s, row["length"], self.fps, spec.shape)

    def _video_file(self, row: dict[str, Any], key: str) -> Path:
        address = FileAddress(row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"])
        return self._file(address, self.info["video_path"], key)

    def video_files(self, index: int) -> list[Path]:
        """Return the video files that an episode's frames lie in, one per video feature."""
        keys = [key for key in self.features if self.info["features"][key]["dtype"] == "video"]
        return [self._video_file(self._row(index), key) for key in keys]

    def _file(self, address: FileAddress, pattern: str, video_key: str = "") -> Path:
        return address.path(self.root, pattern, video_key)

    def _row(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self._rows):
            raise DatasetError(f"{self.root}: has no episode {index}; episodes are 0 to {len(self._rows) - 1}.")
        return self._rows[index]

    def feature(self, key: str) -> FeatureSpec:
        """Return one feature.

        Raises:
            DatasetError: The dataset has none of this key; names the nearest.
        """
        if key not in self.features:
            raise DatasetError(
                f"{self.root}: has no feature '{key}'; features are {', '.join(self.features)}."
                f"{nearest_name(key, self.features)}"
            )
        return self.features[key]

    def column(self, spec: FeatureSpec, stride: int = 1) -> NDArray[Any]:
        """Return every `stride`-th frame's value of a numeric column over all episodes, [L, ...]."""
        paths = dict.fromkeys(
            self._file(FileAddress(row["data/chunk_index"], row["data/file_index"]), self.info["data_path"])
            for row in self._rows
        )
        parts, passed = [], 0
        for path in paths:
            values = values_of(read_table(path, [spec.key])[spec.key], spec, path)
            parts.append(values[-passed % stride :: stride].copy())
            passed += len(values)
        return np.concatenate(parts)

    def statistics(self, episodes: Sequence[int] | None = None) -> dict[str, Statistics]:
        """Return the statistics of some episodes, combined from those of each; of all of them as stored."""
        if episodes is None:
            return self.stats
        parts = [self.episode_statistics(index) for index in episodes]
        return {key: aggregate_statistics([part[key] for part in parts]) for key in self.features}

    def episode_statistics(self, index: int) -> dict[str, Statistics]:
        """Return the statistics stored with one episode, of its features and of the format's columns."""
        row = self._row(index)
        address = FileAddress(row["meta/episodes/chunk_index"], row["meta/episodes/file_index"])
        path = self._file(address, layout.EPISODES_PATH)
        table = read_table(path, self._statistics_columns, filters=[("episode_index", "==", index)])
        if table.num_rows != 1:
            raise DatasetError(f"{path}: holds {table.num_rows} rows of episode {index} in place of one.")
        stored: dict[str, dict[str, Any]] = {}
        for name, value in table.to_pylist()[0].items():
            key, statistic = name.removeprefix("stats/").rsplit("/", 1)
            stored.setdefault(key, {})[statistic] = value
        plain = {key: FeatureSpec(key, "vector", (1,), dtype, (key,)) for key, dtype in layout.INDEX_FEATURES.items()}
        specs = {**self.features, **plain}
        return {key: from_stored(values, specs[key]) for key, values in stored.items() if key in specs}

    def next_file_numbers(self) -> dict[str, int]:
        """Return which running number the next data file (""), episode table ("episodes") and video (its key) takes."""
        numbers = {"": 0, "episodes": 0}
        for row in self._rows:
            for name, place in _places(row):
                number = FileAddress(row[place + "chunk_index"], row[place + "file_index"]).number + 1
                numbers[name] = max(numbers.get(name, 0), number)
        return numbers


def _places(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Kinds of files that an episode's row refers to, each with the prefix of its columns."""
    videos = [
        name.removesuffix("chunk_index") for name in row if name.startswith("videos/") and name.endswith("/chunk_index")
    ]
    return [
        ("", "data/"),
        ("episodes", "meta/episodes/"),
        *((v.removeprefix("videos/").rstrip("/"), v) for v in videos),
    ]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; this is no LeRobotDataset, or an incomplete one.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as reason:
        raise DatasetError(f"{path}: not readable as JSON: {reason}") from reason
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}.")
    return content
