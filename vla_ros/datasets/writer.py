"""Writes a LeRobotDataset v3.0, episode by episode. Owns the folder while it is being written.

Everything is written into a hidden folder beside the target, which takes the target's name only when the
dataset is whole: a crash leaves no dataset, never half of one.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import layout
from vla_ros.datasets.episode_buffer import EpisodeBuffer
from vla_ros.datasets.episode_table import EpisodeTable, column_spec
from vla_ros.datasets.images import check_video_size
from vla_ros.datasets.layout import ImageStorage
from vla_ros.datasets.reader import EpisodeDataset
from vla_ros.datasets.statistics import (
    QUANTILES,
    PixelCounts,
    Statistics,
    aggregate_statistics,
    compute_statistics,
    stored_form,
)
from vla_ros.datasets.tables import RollingTable, data_schema, write_tasks
from vla_ros.datasets.verify import verify_dataset
from vla_ros.datasets.videos import RollingVideo

_QUANTILE_NUMBERS = 20_000_000
"""Numbers of a feature read back for the quantiles of the whole dataset; beyond it, evenly spaced frames."""


class DatasetWriter:
    """Writes episodes as they come; frames go straight into video and are not kept.

    Use as a context manager: leaving it normally finishes the dataset, leaving it by an exception drops it.

    Args:
        root: Folder of the dataset; must not exist yet, or be empty, unless `append`.
        features: Feature key → feature, with ``action``. Keys hold no "/".
        fps: Frames per second.
        robot_type: Name of the robot.
        image_storage: ``video`` (small, lossy) or ``png`` (lossless, in the data files).
        codec: ``av1`` or ``h264`` (or their encoders' names), of videos.
        crf: Video quality, lower is better; None takes the codec's default.
        append: Add episodes to the dataset at `root`, which must have the same features and storage. Its
            files are linked, not copied, and new episodes go into new files.
        data_file_mb, video_file_mb: Sizes at which files roll.

    Raises:
        DatasetError: The folder holds something already, or the features cannot be stored so.
    """

    def __init__(
        self,
        root: Path,
        features: Mapping[str, FeatureSpec],
        fps: int,
        robot_type: str,
        *,
        image_storage: ImageStorage = "video",
        codec: str = "av1",
        crf: int | None = None,
        append: bool = False,
        data_file_mb: float = layout.DATA_FILE_MB,
        video_file_mb: float = layout.VIDEO_FILE_MB,
    ) -> None:
        self.root, self.features, self.fps, self.robot_type = Path(root), dict(features), fps, robot_type
        self.image_storage, self.codec, self.crf = image_storage, layout.codec_of(codec), crf
        self._limits_mb = (data_file_mb, video_file_mb)
        self._check()
        old = self._open_existing() if append else None
        if old is None and self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise DatasetError(f"{self.root}: exists already; choose another folder, remove it, or append to it.")
        self.root.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self.root.name}.partial-", dir=self.root.parent))
        self._finished = False
        self._tasks: list[str] = []
        self._n_frames = self._n_episodes = 0
        self._statistics: dict[str, list[Statistics]] = {}
        self._pixels = {key: PixelCounts() for key in self._image_keys}
        self._appending = old is not None
        numbers = {"": 0, "episodes": 0}
        if old is not None:
            numbers = self._take_over(old)
        self._open_files(numbers)

    @property
    def _image_keys(self) -> tuple[str, ...]:
        return tuple(key for key, spec in self.features.items() if spec.kind == "image")

    @property
    def n_episodes(self) -> int:
        """Episodes written so far, with those of the dataset appended to."""
        return self._n_episodes

    def _check(self) -> None:
        if "action" not in self.features:
            raise DatasetError(f"{self.root}: features need the key 'action', got {', '.join(self.features)}.")
        if self.image_storage not in ("video", "png"):
            raise DatasetError(f"image_storage '{self.image_storage}' is not one of video, png.")
        for key, spec in self.features.items():
            if "/" in key or key in layout.INDEX_FEATURES or key == "task":
                raise DatasetError(
                    f"{self.root}: '{key}' cannot be a feature's key; it holds a '/' or is a column of the format."
                )
            if spec.kind == "image" and self.image_storage == "video":
                check_video_size(spec.shape[0], spec.shape[1], self.codec)

    def _open_existing(self) -> EpisodeDataset | None:
        """Return the dataset to append to, None where there is none yet."""
        if not (self.root / layout.INFO_PATH).is_file():
            return None
        old = EpisodeDataset(self.root)
        wanted = {**self._entries(), **layout.index_entries()}
        if old.info["features"] != wanted or old.fps != self.fps or old.robot_type != self.robot_type:
            differing = [
                key for key in {**wanted, **old.info["features"]} if old.info["features"].get(key) != wanted.get(key)
            ]
            what = f"feature '{differing[0]}'" if differing else "fps or robot_type"
            raise DatasetError(
                f"{self.root}: cannot append, {what} differs from what the dataset holds; write a new dataset."
            )
        return old

    def _entries(self) -> dict[str, dict[str, Any]]:
        return {
            key: layout.feature_entry(spec, self.image_storage, self.fps, self.codec)
            for key, spec in self.features.items()
        }

    def _take_over(self, old: EpisodeDataset) -> dict[str, int]:
        """Link the files of an existing dataset; return the running number of the next file of each kind."""
        shutil.copytree(self.root, self._folder, dirs_exist_ok=True, copy_function=_link)
        for name in (layout.INFO_PATH, layout.STATS_PATH, layout.TASKS_PATH):
            (self._folder / name).unlink()  # rewritten later, and not through a link into the old dataset
        self._tasks, self._n_episodes, self._n_frames = list(old.tasks), old.n_episodes, old.n_frames
        for index in range(old.n_episodes):
            for key, statistics in old.episode_statistics(index).items():
                self._statistics.setdefault(key, []).append(statistics)
        return old.next_file_numbers()

    def _open_files(self, numbers: Mapping[str, int]) -> None:
        data_bytes, video_bytes = (int(mb * 1024 * 1024) for mb in self._limits_mb)
        schema = data_schema(self.features, images=self.image_storage == "png")
        self._data = RollingTable(self._folder, layout.DATA_PATH, schema, data_bytes, numbers[""])
        self._videos = {
            key: RollingVideo(self._folder, key, self.fps, video_bytes, numbers.get(key, 0))
            for key in (self._image_keys if self.image_storage == "video" else ())
        }
        self._episodes = EpisodeTable(self._folder, self.features, data_bytes, numbers["episodes"])

    def add_episode(self, frames: Iterable[Mapping[str, NDArray[Any]]], task: str) -> int:
        """Write one episode; when `frames` or a check raises, nothing of it stays and writing may go on.

        Args:
            frames: For each tick, every feature's value: images uint8 [h, w, 3] RGB, numbers in the feature's
                shape. NaN is allowed only as whole rows of points and windows.
            task: The instruction.

        Returns:
            Index of the episode.

        Raises:
            DatasetError: No frames, no task, or a frame whose keys, shapes or numbers are wrong.
        """
        if not task:
            raise DatasetError(f"{self.root}: episode {self._n_episodes} has no task; give an instruction.")
        with ExitStack() as stack:
            scratch = Path(tempfile.mkdtemp(dir=self._folder, prefix="segment-")) if self._videos else self._folder
            buffer = EpisodeBuffer(self.features, self.fps, scratch if self._videos else None, self.codec, self.crf)
            stack.callback(buffer.abandon)
            for frame in frames:
                buffer.add(frame, f"{self.root}: episode {self._n_episodes}")
            buffer.close(f"{self.root}: episode {self._n_episodes}")
            stack.pop_all()
        return self._commit(buffer, task)

    def _commit(self, buffer: EpisodeBuffer, task: str) -> int:
        """Write an episode that is complete and checked."""
        episode, length = self._n_episodes, buffer.length
        if task not in self._tasks:
            self._tasks.append(task)
        table = self._data_table(buffer, self._tasks.index(task))
        address = self._data.address_for(table.nbytes)
        self._data.write(table)
        row: dict[str, Any] = {
            "episode_index": episode,
            "tasks": [task],
            "length": length,
            "data/chunk_index": address.chunk_index,
            "data/file_index": address.file_index,
            "dataset_from_index": self._n_frames,
            "dataset_to_index": self._n_frames + length,
        }
        for key, video in self._videos.items():
            place = video.add(buffer.segments[key], length)
            row |= {f"videos/{key}/{name}": value for name, value in place.items()}
        self._episodes.write(row, self._episode_statistics(buffer, table))
        self._n_frames += length
        self._n_episodes += 1
        return episode

    def _data_table(self, buffer: EpisodeBuffer, task_index: int) -> Any:
        length = buffer.length
        columns = buffer.columns()
        frame_index = np.arange(length, dtype=np.int64)
        index = {
            "timestamp": (frame_index / self.fps).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.full(length, self._n_episodes, np.int64),
            "index": frame_index + self._n_frames,
            "task_index": np.full(length, task_index, np.int64),
        }
        columns |= {key: pa.array(values) for key, values in index.items()}
        schema = data_schema(self.features, images=self.image_storage == "png")
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _episode_statistics(self, buffer: EpisodeBuffer, table: Any) -> dict[str, Statistics]:
        statistics = compute_statistics(buffer.numbers(), self.features)
        for key, pixels in buffer.pixels.items():
            statistics[key] = pixels.statistics()
            self._pixels[key].merge(pixels)
        index = {key: table[key].to_numpy() for key in layout.INDEX_FEATURES}
        statistics |= compute_statistics(index, {})
        for key, value in statistics.items():
            self._statistics.setdefault(key, []).append(value)
        return statistics

    def finish(self, extra_files: Mapping[str, str] | None = None) -> EpisodeDataset:
        """Write what describes the whole, check it, give the folder its name, and open the dataset.

        Args:
            extra_files: Path within the dataset → text of further files, e.g. the contract.

        Raises:
            DatasetError: No episode was added, or the target appeared in the meantime.
        """
        try:
            self._close_files()
            write_tasks(self._folder / layout.TASKS_PATH, self._tasks)
            self._write_text(layout.INFO_PATH, json.dumps(self._info(), indent=2, ensure_ascii=False) + "\n")
            self._write_text(layout.STATS_PATH, json.dumps(self._total_statistics()) + "\n")
            for name, text in (extra_files or {}).items():
                self._write_text(name, text)
            verify_dataset(self._folder)
            self._rename()
        except BaseException:
            self.abandon()
            raise
        return EpisodeDataset(self.root)

    def _close_files(self) -> None:
        if not self._n_episodes:
            raise DatasetError(f"{self.root}: no episode to write.")
        self._data.close()
        self._episodes.close()
        for video in self._videos.values():
            video.close()
        for folder in self._folder.glob("segment-*"):
            shutil.rmtree(folder)

    def _write_text(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # may be a link to a file of the dataset appended to, which must not change
        path.write_text(text, encoding="utf-8")

    def _info(self) -> dict[str, Any]:
        return layout.info_content(
            robot_type=self.robot_type,
            fps=self.fps,
            episodes=self._n_episodes,
            frames=self._n_frames,
            tasks=len(self._tasks),
            has_video=bool(self._videos),
            features=self._entries(),
        )

    def _total_statistics(self) -> dict[str, Any]:
        """Statistics of the whole: moments from the episodes, quantiles from the rows themselves.

        Pixels of episodes appended to are not counted again; image quantiles are then averages of episodes'.
        """
        whole = EpisodeDataset(self._folder, without_stats=True)
        result: dict[str, Any] = {}
        for key, parts in self._statistics.items():
            spec = column_spec(key, self.features)
            if spec.kind == "image":
                total = aggregate_statistics(parts) if self._appending else self._pixels[key].statistics()
            else:
                stride = max(1, self._n_frames * layout.flat_size(spec) // _QUANTILE_NUMBERS)
                exact = compute_statistics({key: whole.column(spec, stride)}, {key: spec})[key]
                total = aggregate_statistics(parts) | {name: exact[name] for name in QUANTILES}
            result[key] = stored_form(total, spec)
        return result

    def _rename(self) -> None:
        """Let the finished folder take the target's name."""
        self._folder.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        if not self._appending:
            if self.root.exists():
                self.root.rmdir()  # empty since the start, or this refuses
            self._folder.rename(self.root)
        else:
            replaced = self._folder.with_name(self._folder.name.replace(".partial-", ".replaced-"))
            self.root.rename(replaced)
            self._folder.rename(self.root)
            shutil.rmtree(replaced)
        self._finished = True

    def abandon(self) -> None:
        """Drop everything written so far."""
        if not self._finished:
            self._data.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._finished = True

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
        elif not self._finished:
            self.finish()


def _link(source: str, target: str) -> None:
    """Hard-link a file where the file system can, else copy it."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
