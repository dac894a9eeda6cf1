"""Opens a LeRobotDataset v3.0 and gives its episodes as arrays. Reads only; strict about what it finds."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec, RobotContract, is_hash_of, load_contract
from vla_ros.data_types import DatasetError, nearest_name
from vla_ros.datasets import layout
from vla_ros.datasets.checks import (
    check_episode_rows,
    check_feature,
    check_info,
    check_statistics,
    check_videos_follow,
    read_json,
)
from vla_ros.datasets.images import read_frames
from vla_ros.datasets.layout import FileAddress
from vla_ros.datasets.statistics import (
    MOMENTS,
    QUANTILE_NUMBERS,
    QUANTILES,
    STATISTICS,
    PixelCounts,
    Statistics,
    aggregate_statistics,
    compute_statistics,
    from_stored,
)
from vla_ros.datasets.tables import column_names, read_table, read_tasks, values_of

_COUNTED_EPISODES, _COUNTED_IMAGES = 50, 20
"""How many episodes, and images of each, stand for a camera of which the dataset has no statistics."""


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
        prefix: Keep the episodes before the first one that the episode tables contradict, in place of refusing all.

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

    def __init__(self, root: str | Path, without_stats: bool = False, *, prefix: bool = False) -> None:
        self.root = Path(root)
        source = self.root / layout.INFO_PATH
        self.info = read_json(source)
        check_info(self.info, source)
        self.fps = int(self.info["fps"])
        self.robot_type = str(self.info.get("robot_type") or "")
        self.features: dict[str, FeatureSpec] = {}
        for key, entry in self.info["features"].items():
            check_feature(key, entry, source)
            if key not in layout.INDEX_FEATURES and layout.is_read(entry):
                self.features[key] = layout.feature_of(key, entry, source)
        self.tasks = read_tasks(self.root / layout.TASKS_PATH)
        self._rows = self._read_episode_rows(prefix=prefix)
        if prefix:
            self._keep_prefix()
        self.lengths: tuple[int, ...] = tuple(row["length"] for row in self._rows)
        self._check_rows()
        self.stats: dict[str, Statistics] = {} if without_stats else self._read_stats()

    @property
    def _video_keys(self) -> list[str]:
        return [key for key in self.features if self.is_video(key)]

    def _read_episode_rows(self, *, prefix: bool = False) -> list[dict[str, Any]]:
        files = sorted((self.root / "meta/episodes").glob("chunk-*/file-*.parquet"))
        if not files:
            raise DatasetError(f"{self.root / 'meta/episodes'}: no episode table; the dataset is incomplete.")
        rows: list[dict[str, Any]] = []
        self._file_of_row: dict[int, Path] = {}
        for path in files:
            try:
                names = column_names(path)
                own = read_table(path, [name for name in names if not name.startswith("stats/")]).to_pylist()
                check_episode_rows(own, self._video_keys, path)
            except DatasetError:
                if not prefix:
                    raise
                break
            self._file_of_row |= {row["episode_index"]: path for row in own}
            rows += own
        return sorted(rows, key=lambda row: int(row["episode_index"]))

    def _keep_prefix(self) -> None:
        """Drop the episodes from the first one on that does not follow the one before."""
        place, end = self.root / "meta/episodes", 0
        for index, row in enumerate(self._rows):
            first, last = row["dataset_from_index"], row["dataset_to_index"]
            whole = row["episode_index"] == index and first == end and last - first == row["length"] >= 1
            try:
                check_videos_follow(self._rows[: index + 1], self._video_keys, self.fps, place)
            except DatasetError:
                whole = False
            if not whole:
                del self._rows[index:]
                break
            end = last
        self.info = {**self.info, "total_episodes": len(self._rows), "total_frames": end}

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
        check_videos_follow(self._rows, self._video_keys, self.fps, place)
        for field, expected in (("total_episodes", len(self._rows)), ("total_frames", end)):
            if self.info[field] != expected:
                raise DatasetError(
                    f"{self.root / layout.INFO_PATH}: {field} is {self.info[field]}, "
                    f"the episode tables hold {expected}."
                )

    def _read_stats(self) -> dict[str, Statistics]:
        path = self.root / layout.STATS_PATH
        stored = read_json(path, finite=False)
        missing = [key for key in self.features if key not in stored]
        if missing:
            raise DatasetError(f"{path}: has no statistics of '{missing[0]}'.")
        for key, spec in self.features.items():
            check_statistics(stored[key], spec, f"{path}: '{key}'")
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
                f"{self.contract_path}: no such file; this dataset was not converted from bags of a contract. Write "
                "one for its robot and give it as dataset.contract in the recipe."
            )
        contract = load_contract(self.contract_path)
        if not is_hash_of(self.contract_hash, contract, self.root):
            raise DatasetError(
                f"{self.contract_path}: hash {contract.hash} differs from {self.contract_hash} in "
                f"{layout.CONTRACT_HASH_PATH}; the contract was edited after the conversion."
            )
        return contract

    def has_several_tasks(self, index: int) -> bool:
        """Whether the instruction changes within an episode."""
        return len(self._row(index)["tasks"]) > 1

    def tasks_of_frames(self, index: int) -> list[str]:
        """Return the instruction of every frame of an episode.

        Raises:
            DatasetError: A frame's task_index is none of the dataset's tasks.
        """
        spec = FeatureSpec("task_index", "vector", (1,), "int64", ("task_index",))
        numbers = self.column(spec, episodes=[index])[:, 0]
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self.tasks):
            raise DatasetError(f"{self.root}: episode {index} has a task_index that is not in {layout.TASKS_PATH}.")
        return [self.tasks[number] for number in numbers]

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
        in_table = [spec for spec in specs if not self.is_video(spec.key)]
        path, table = self._rows_of(index, [spec.key for spec in in_table])
        values = {spec.key: values_of(table[spec.key], spec, path) for spec in in_table}
        for spec in specs:
            if spec.key not in values:
                values[spec.key] = self._video(row, spec)
        return Episode(index, {spec.key: values[spec.key] for spec in specs}, self.task(index))

    def is_video(self, key: str) -> bool:
        """Whether a feature's frames lie in video files, not in the tables."""
        return bool(self.info["features"][key]["dtype"] == "video")

    def chunks(self, index: int, key: str, frames: Sequence[int], size: int) -> Iterator[NDArray[Any]]:
        """Read chosen frames of a feature that lies in the tables, some at a time.

        Args:
            index: The episode.
            key: The feature.
            frames: Frame numbers within the episode.
            size: Most frames to hold at once.

        Yields:
            [at most `size`, ...], together all of `frames`, in their order.

        Raises:
            DatasetError: As `episode`.
        """
        spec = self.feature(key)
        path, table = self._rows_of(index, [key])
        for first in range(0, len(frames), size):
            yield values_of(table[key].take(list(frames[first : first + size])), spec, path)

    def video_of(self, index: int, key: str) -> tuple[Path, float]:
        """Return the file that an episode's frames of a video feature lie in, and when the first is shown, in s."""
        row = self._row(index)
        return self._video_file(row, key), float(row[f"videos/{key}/from_timestamp"])

    def rows(self, index: int, names: Sequence[str]) -> Any:
        """Return columns of an episode as they are stored, a pyarrow table; errors as `episode`."""
        return self._rows_of(index, names)[1].select(list(names))

    def columns_of(self, index: int) -> list[str]:
        """Return the names of the columns that an episode's data file has."""
        row = self._row(index)
        return column_names(
            self._file(FileAddress(row["data/chunk_index"], row["data/file_index"]), self.info["data_path"])
        )

    def tasks_of(self, index: int) -> list[str]:
        """Return the instructions that an episode has, as its row of the episode tables lists them."""
        return [str(task) for task in self._row(index)["tasks"]]

    def _rows_of(self, index: int, names: Sequence[str]) -> tuple[Path, Any]:
        """Return the data file of an episode, and these columns of its rows."""
        row = self._row(index)
        path = self._file(FileAddress(row["data/chunk_index"], row["data/file_index"]), self.info["data_path"])
        table = read_table(path, [*names, "index"], filters=[("episode_index", "==", index)])
        positions = table["index"].to_numpy()
        if not np.array_equal(positions, np.arange(row["dataset_from_index"], row["dataset_to_index"])):
            raise DatasetError(
                f"{path}: holds {len(positions)} rows of episode {index} in place of the {row['length']} in order."
            )
        return path, table

    def _video(self, row: dict[str, Any], spec: FeatureSpec) -> NDArray[np.uint8]:
        start_s = row[f"videos/{spec.key}/from_timestamp"]
        return read_frames(self._video_file(row, spec.key), start_s, row["length"], self.fps, spec.shape)

    def _video_file(self, row: dict[str, Any], key: str) -> Path:
        address = FileAddress(row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"])
        return self._file(address, self.info["video_path"], key)

    def video_files(self, index: int) -> list[Path]:
        """Return the video files that an episode's frames lie in, one per video feature."""
        return [self._video_file(self._row(index), key) for key in self._video_keys]

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

    def column(self, spec: FeatureSpec, stride: int = 1, episodes: Collection[int] | None = None) -> NDArray[Any]:
        """Return every `stride`-th frame's value of a numeric column over all or some episodes, [L, ...]."""
        chosen = range(self.n_episodes) if episodes is None else sorted(set(episodes))
        paths: dict[Path, list[int]] = {}
        for index in chosen:
            row = self._row(index)
            address = FileAddress(row["data/chunk_index"], row["data/file_index"])
            paths.setdefault(self._file(address, self.info["data_path"]), []).append(index)
        parts, passed = [], 0
        for path, own in paths.items():
            names = [spec.key] if episodes is None else [spec.key, "episode_index"]
            table = read_table(path, names)
            values = values_of(table[spec.key], spec, path)
            if episodes is not None:
                values = values[np.isin(table["episode_index"].to_numpy(), own)]
            parts.append(values[-passed % stride :: stride].copy())
            passed += len(values)
        return np.concatenate(parts)

    def statistics(self, episodes: Sequence[int] | None = None) -> dict[str, Statistics]:
        """Return the statistics of some or all episodes.

        Moments are combined from those of each episode, quantiles of numbers are taken from the rows themselves, and
        those of images are merged from those of each episode. What the dataset does not store is computed.
        """
        if episodes is None:
            return {key: self._completed(self.stats[key], spec, None) for key, spec in self.features.items()}
        parts = [self.episode_statistics(index) for index in episodes]
        result = {}
        for key, spec in self.features.items():
            own = [part[key] for part in parts if key in part]
            whole = len(own) == len(parts) and all(part.keys() >= MOMENTS for part in own)
            total = aggregate_statistics(own) if whole else {}
            result[key] = self._completed(total, spec, episodes)
        return result

    def _completed(self, stored: Statistics, spec: FeatureSpec, episodes: Sequence[int] | None) -> Statistics:
        """Return statistics with what is missing, or was averaged, taken from the data."""
        missing = [name for name in STATISTICS if name not in stored]
        if spec.kind == "image":
            return stored if not missing else self._image_statistics(spec, episodes) | stored
        if episodes is None and not missing:
            return stored
        frames = sum(self.lengths if episodes is None else (self.lengths[index] for index in episodes))
        stride = max(1, frames * layout.flat_size(spec) // QUANTILE_NUMBERS)
        exact = compute_statistics({spec.key: self.column(spec, stride, episodes)}, {spec.key: spec})[spec.key]
        return {**exact, **{name: value for name, value in stored.items() if name not in QUANTILES}}

    def _image_statistics(self, spec: FeatureSpec, episodes: Sequence[int] | None) -> Statistics:
        """Count the pixels of some images of some episodes, evenly spread."""
        chosen = list(range(self.n_episodes)) if episodes is None else list(episodes)
        counts = PixelCounts()
        for index in chosen[:: max(1, len(chosen) // _COUNTED_EPISODES)]:
            images = self.episode(index, [spec.key]).values[spec.key]
            for image in images[:: max(1, len(images) // _COUNTED_IMAGES)]:
                counts.add(image)
        return counts.statistics()

    def episode_statistics(self, index: int) -> dict[str, Statistics]:
        """Return the statistics stored with one episode, of its features and of the format's columns."""
        self._row(index)
        path = self._file_of_row[index]
        names = [name for name in column_names(path) if name.startswith("stats/")]
        table = read_table(path, [*names, "episode_index"], filters=[("episode_index", "==", index)])
        if table.num_rows != 1:
            raise DatasetError(f"{path}: holds {table.num_rows} rows of episode {index} in place of one.")
        stored: dict[str, dict[str, Any]] = {}
        for name, value in table.select(names).to_pylist()[0].items():
            key, _, statistic = name.removeprefix("stats/").rpartition("/")
            if value is not None:
                stored.setdefault(key, {})[statistic] = value
        plain = {key: FeatureSpec(key, "vector", (1,), dtype, (key,)) for key, dtype in layout.INDEX_FEATURES.items()}
        specs = {**self.features, **plain}
        for key, values in stored.items():
            if key in specs:
                check_statistics(values, specs[key], f"{path}: episode {index}, '{key}'")
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
