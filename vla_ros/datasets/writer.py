"""Writes a LeRobotDataset v3.0, episode by episode. Owns the folder while it is being written.

Everything is written into a hidden folder beside the target: a finished folder for each episode, put together at the
end, ``info.json`` last. The folder takes the target's name only when the dataset is whole and was checked: a crash
leaves no dataset, never half of one, and what it leaves can be gone on with.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any

import av
import pyarrow as pa
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import layout
from vla_ros.datasets.assembly import Form, assemble
from vla_ros.datasets.episode_buffer import EpisodeBuffer
from vla_ros.datasets.images import check_video_size
from vla_ros.datasets.journal import Journal, Part
from vla_ros.datasets.layout import ImageStorage
from vla_ros.datasets.reader import EpisodeDataset
from vla_ros.datasets.verify import verify_dataset


class WriteError(DatasetError):
    """The dataset cannot be written, whatever its episodes hold: the disk is full, or another process has it."""


class DatasetWriter:
    """Writes episodes as they come; frames go straight to disk and are not kept.

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
        resume: Where given, what a killed run of the same arguments left is gone on with, and an interrupt leaves it.

    Attributes:
        notes: Sentences on what earlier runs left.

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
        resume: str = "",
    ) -> None:
        self.root, self.features, self.fps, self.robot_type = Path(root), dict(features), fps, robot_type
        self.image_storage, self.codec, self.crf = image_storage, layout.codec_of(codec), crf
        self._limits_mb = (data_file_mb, video_file_mb)
        self._check()
        self._old = self._open_existing() if append else None
        if self._old is None and self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise DatasetError(f"{self.root}: exists already; choose another folder, remove it, or append to it.")
        self._tasks: list[str] = [] if self._old is None else list(self._old.tasks)
        self._resume, self._finished = bool(resume), False
        self.notes: list[str] = []
        with self._explained():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{self.root.name}.partial-"
            if resume:
                folder = self.root.parent / f"{prefix}{self._fingerprint(resume)}"
                self._note_earlier(prefix, folder)
            else:
                folder = Path(mkdtemp(prefix=prefix, dir=self.root.parent))
            self._journal = self._opened_journal(folder)

    def _opened_journal(self, folder: Path) -> Journal:
        existed = folder.exists() and any(folder.iterdir())
        try:
            journal = Journal(folder)
            journal.clear_outputs()
        except OSError:  # the disk may be full
            if not existed:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return journal

    @property
    def _image_keys(self) -> tuple[str, ...]:
        return tuple(key for key, spec in self.features.items() if spec.kind == "image")

    @property
    def n_base_episodes(self) -> int:
        """Episodes of the dataset appended to."""
        return 0 if self._old is None else self._old.n_episodes

    @property
    def n_episodes(self) -> int:
        """Episodes written so far, with those of the dataset appended to."""
        return self.n_base_episodes + len(self._journal.parts)

    @property
    def _n_frames(self) -> int:
        return (0 if self._old is None else self._old.n_frames) + sum(part.length for part in self._journal.parts)

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

    def _fingerprint(self, resume: str) -> str:
        """Return a short name for everything that makes two runs write the same episodes."""
        before = None if self._old is None else [self._old.n_episodes, self._old.n_frames, self._old.tasks]
        job = [resume, self._entries(), self.fps, self.robot_type, self.image_storage, self.codec, self.crf, before]
        return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:10]

    def _note_earlier(self, prefix: str, folder: Path) -> None:
        """Say what earlier runs left: nothing else would ever name a hidden folder."""
        for path in sorted(self.root.parent.glob(f"{prefix}*")):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1024**2
            if path == folder:
                self.notes.append(f"{path}: an earlier run of this command left {size:.0f} MB; goes on with them")
            else:
                self.notes.append(
                    f"{path}: {size:.0f} MB that a conversion with other options or inputs left or is writing; "
                    "delete it unless that is still running or is to go on"
                )

    def resumed(self, key: str) -> list[Any] | None:
        """Return the notes of the episodes that an earlier run wrote for a source next, None where it did not.

        They then are episodes of this run. Ask for every source, in the same order as then.
        """
        with self._explained():
            parts = self._journal.claim(key)
        for part in parts or ():
            self._task_index(part.task)
        return None if parts is None else [part.note for part in parts]

    def mark_done(self, key: str) -> None:
        """Note that a source's episodes are all written."""
        with self._explained():
            self._journal.mark_done(key)

    def rollback(self, n_episodes: int) -> None:
        """Drop the newest episodes until `n_episodes` are left."""
        with self._explained():
            self._journal.rollback(n_episodes - self.n_base_episodes)

    def add_episode(
        self,
        frames: Iterable[Mapping[str, NDArray[Any]]],
        task: str,
        *,
        note: Callable[[int], Any] | None = None,
    ) -> int:
        """Write one episode; when `frames` or a check raises, nothing of it stays and writing may go on.

        Args:
            frames: For each tick, every feature's value: images uint8 [h, w, 3] RGB, numbers in the feature's
                shape. NaN is allowed only as whole rows of points and windows.
            task: The instruction.
            note: Called with the episode's index when its frames are taken; what it returns goes through JSON and is
                given back by `resumed`.

        Returns:
            Index of the episode.

        Raises:
            DatasetError: No frames, no task, or a frame whose keys, shapes or numbers are wrong.
            WriteError: The disk is full.
        """
        episode = self.n_episodes
        place = f"{self.root}: episode {episode}"
        if not task:
            raise DatasetError(f"{place} has no task; give an instruction.")
        tasks = list(self._tasks)
        with self._explained():
            buffer = EpisodeBuffer(
                self._journal.scratch(),
                self.features,
                self.fps,
                self.codec if self.image_storage == "video" else None,
                self.crf,
                episode_index=episode,
                first_index=self._n_frames,
                task_index=self._task_index(task),
            )
        try:
            for frame in frames:
                with self._explained():
                    buffer.add(frame, place)
            with self._explained():
                buffer.close(place)
                said = None if note is None else note(episode)
                levels = {key: pixels.levels for key, pixels in buffer.pixels.items()}
                part = Part(buffer.folder, buffer.length, task, buffer.nbytes, buffer.statistics(), levels, said)
                self._journal.commit(part)
                (self._journal.folder / "data/chunk-000").mkdir(parents=True, exist_ok=True)
        except BaseException:
            buffer.abandon()
            self._tasks = tasks
            raise
        return episode

    def _task_index(self, task: str) -> int:
        if task not in self._tasks:
            self._tasks.append(task)
        return self._tasks.index(task)

    def finish(self, extra_files: Mapping[str, str | bytes] | None = None) -> EpisodeDataset:
        """Put the episodes together, write what describes the whole, check it, and give the folder its name.

        Args:
            extra_files: Path within the dataset → content of further files, e.g. the contract.

        Raises:
            DatasetError: No episode was added, or the target appeared in the meantime.
            WriteError: The disk is full.
        """
        try:
            self._check_episodes()
            with self._explained():
                self._write_dataset(extra_files or {})
                verify_dataset(self._journal.folder)
                self._rename()
        except BaseException:
            self.abandon()
            raise
        return EpisodeDataset(self.root)

    def _check_episodes(self) -> None:
        if self.n_episodes == 0:
            raise DatasetError(f"{self.root}: no episode to write.")

    def _write_dataset(self, extra_files: Mapping[str, str | bytes]) -> None:
        folder, old = self._journal.folder, self._old
        self._journal.clear_outputs()
        if old is not None:
            shutil.copytree(self.root, folder, dirs_exist_ok=True, copy_function=_link)
            for name in (layout.INFO_PATH, layout.STATS_PATH, layout.TASKS_PATH):
                (folder / name).unlink()  # written anew, and not through a link into the old dataset
        videos = self._image_keys if self.image_storage == "video" else ()
        data_bytes, video_bytes = (int(mb * 1024 * 1024) for mb in self._limits_mb)
        form = Form(self.features, videos, self.fps, data_bytes, video_bytes)
        statistics = assemble(folder, self._journal.parts, form, self._tasks, old)
        self._write_file(layout.STATS_PATH, json.dumps(statistics) + "\n")
        for name, content in extra_files.items():
            self._write_file(name, content)
        self._write_file(layout.INFO_PATH, json.dumps(self._info(bool(videos)), indent=2, ensure_ascii=False) + "\n")

    def _write_file(self, name: str, content: str | bytes) -> None:
        path = self._journal.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # may be a link to a file of the dataset appended to, which must not change
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def _info(self, has_video: bool) -> dict[str, Any]:
        return layout.info_content(
            robot_type=self.robot_type,
            fps=self.fps,
            episodes=self.n_episodes,
            frames=self._n_frames,
            tasks=len(self._tasks),
            has_video=has_video,
            features=self._entries(),
        )

    def _rename(self) -> None:
        """Let the finished folder take the target's name."""
        folder = self._journal.folder
        folder.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        self._journal.remove_traces()
        if self._old is None:
            if self.root.exists():
                self.root.rmdir()  # empty since the start, or this refuses
            folder.rename(self.root)
        else:
            replaced = folder.with_name(folder.name.replace(".partial-", ".replaced-"))
            self.root.rename(replaced)
            folder.rename(self.root)
            shutil.rmtree(replaced)
        self._finished = True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what goes wrong with the disk into one sentence."""
        try:
            yield
        except (OSError, av.FFmpegError, pa.ArrowException) as reason:
            full = getattr(reason, "errno", None) == errno.ENOSPC or "No space left" in str(reason)
            said = "no space left on the device" if full else " ".join(str(reason).split())[:200]
            fix = "free some space or choose another folder" if full else "check the folder"
            raise WriteError(f"{self.root}: cannot be written: {said}; {fix}.") from reason

    def abandon(self) -> None:
        """Drop everything written so far."""
        if not self._finished:
            self._finished = True
            with suppress(OSError):  # the disk may be full; the folder goes in any case
                self._journal.close()
            shutil.rmtree(self._journal.folder, ignore_errors=True)

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if not self._finished:
                self.finish()
        elif self._resume and issubclass(kind, KeyboardInterrupt) and self._journal.parts and not self._finished:
            self._finished = True
            self._journal.close()
        else:
            self.abandon()


def _link(source: str, target: str) -> None:
    """Hard-link a file where the file system can, else copy it."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
