"""Episodes that are safely on disk, one folder each, and a line for each in a journal: what a kill leaves can go on.

An episode counts when its finished folder has its name and its line stands in the journal. Whoever comes next
believes a line only when the files have the sizes and checksums that it says.
"""

import fcntl
import json
import os
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DatasetError
from vla_ros.datasets.statistics import PixelCounts, Statistics

_JOURNAL, _LOCK, _PARTS, _ABOUT = "journal.jsonl", "lock", "parts", "part.json"


@dataclass(frozen=True)
class Part:
    """One episode on disk.

    Attributes:
        folder: Its data file and videos.
        length: Frames.
        task: Instruction.
        nbytes: Of its table.
        statistics: Of its features and the columns that every dataset has.
        levels: Image feature → how often each level occurs, int64 [3, 256].
        note: What its writer wants to know of it again.
    """

    folder: Path
    length: int
    task: str
    nbytes: int
    statistics: dict[str, Statistics]
    levels: dict[str, NDArray[np.int64]]
    note: Any = None

    def pixels(self, key: str) -> PixelCounts:
        """Return an image feature's counts."""
        counts = PixelCounts()
        counts.levels, counts.frames = self.levels[key].copy(), self.length
        return counts


@dataclass
class _Kept:
    key: str
    entries: list[dict[str, Any]] = field(default_factory=list)


class Journal:
    """The working folder of one dataset that is being written. One process at a time has it.

    Args:
        folder: Created where it does not exist.

    Raises:
        DatasetError: Another process is writing it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / _LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            self._lock.close()
            raise DatasetError(f"{folder}: another conversion writes the same dataset; wait for it.") from reason
        self.parts: list[Part] = []
        self._kept = _read(folder / _JOURNAL)
        (folder / _PARTS).mkdir(exist_ok=True)
        self._file: TextIO = (folder / _JOURNAL).open("w", encoding="utf-8")
        self._replay()

    def _replay(self) -> None:
        """Begin the journal anew; kept lines are written again when they are claimed."""
        names = {entry["name"] for kept in self._kept for entry in kept.entries}
        for path in (self.folder / _PARTS).iterdir():
            if path.name not in names:
                shutil.rmtree(path)

    def claim(self, key: str) -> list[Part] | None:
        """Return the episodes of a source that an earlier run finished next, None where there are none or others.

        After the first None nothing of the earlier run is used any more.
        """
        kept = self._kept[0] if self._kept else None
        parts = _verified(self.folder / _PARTS, kept) if kept is not None and kept.key == key else None
        if kept is None or parts is None:
            for rest in self._kept:
                for entry in rest.entries:
                    shutil.rmtree(self.folder / _PARTS / entry["name"], ignore_errors=True)
            self._kept = []
            return None
        self._kept.pop(0)
        for entry in kept.entries:
            self._write(entry)
        self._write({"done": key})
        self.parts += parts
        return parts

    def scratch(self) -> Path:
        """Return the folder in which the next episode is to be written; it does not exist."""
        path = self.folder / _PARTS / f"{len(self.parts):06d}.part"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def commit(self, part: Part) -> Part:
        """Give an episode's finished folder its name, and note it."""
        about = {
            "length": part.length,
            "task": part.task,
            "nbytes": part.nbytes,
            "note": part.note,
            "statistics": {
                key: {name: array.tolist() for name, array in values.items()} for key, values in part.statistics.items()
            },
            "levels": {key: levels.tolist() for key, levels in part.levels.items()},
        }
        (part.folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        files = {}
        for path in sorted(part.folder.iterdir()):
            files[path.name] = _sum(path, sync=True)
        name = part.folder.name.removesuffix(".part")
        target = part.folder.with_name(name)
        shutil.rmtree(target, ignore_errors=True)
        part.folder.rename(target)
        self._write({"name": name, "files": files})
        committed = _part(target, about)
        self.parts.append(committed)
        return committed

    def mark_done(self, key: str) -> None:
        """Note that all episodes of a source are committed."""
        self._write({"done": key})

    def rollback(self, count: int) -> None:
        """Drop all episodes but the first `count`."""
        for part in self.parts[count:]:
            shutil.rmtree(part.folder, ignore_errors=True)
        if len(self.parts) > count:
            self._write({"rollback": count})
        del self.parts[count:]

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another process have the folder."""
        try:
            self._file.close()
        finally:
            self._lock.close()

    def remove_traces(self) -> None:
        """Remove what belongs to the writing and not to the dataset."""
        self.close()
        shutil.rmtree(self.folder / _PARTS)
        for name in (_JOURNAL, _LOCK):
            (self.folder / name).unlink(missing_ok=True)

    def clear_outputs(self) -> None:
        """Remove what an earlier run had begun to put together."""
        for path in self.folder.iterdir():
            if path.name not in (_JOURNAL, _LOCK, _PARTS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read(path: Path) -> list[_Kept]:
    """Return the sources that a journal says are done, in order; what follows the last of them does not count."""
    done: list[_Kept] = []
    entries: list[dict[str, Any]] = []
    if not path.is_file():
        return done
    count = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            if "done" in entry:
                done.append(_Kept(str(entry["done"]), entries))
                entries = []
            elif "rollback" in entry:
                entries = entries[: max(0, int(entry["rollback"]) - count + len(entries))]
            elif set(entry) == {"name", "files"} and entry["name"].isdigit():
                entries.append(entry)
            else:
                break
        except (ValueError, TypeError, AttributeError):
            break  # the line was being written
        count = sum(len(kept.entries) for kept in done) + len(entries)
    return done


def _verified(folder: Path, kept: _Kept) -> list[Part] | None:
    parts = []
    try:
        for entry in kept.entries:
            own = folder / entry["name"]
            if {path.name: list(_sum(path)) for path in own.iterdir()} != entry["files"]:
                return None
            parts.append(_part(own, json.loads((own / _ABOUT).read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return parts


def _part(folder: Path, about: dict[str, Any]) -> Part:
    statistics = {
        key: {name: np.asarray(v, np.int64 if name == "count" else np.float64) for name, v in values.items()}
        for key, values in about["statistics"].items()
    }
    levels = {key: np.asarray(value, np.int64) for key, value in about["levels"].items()}
    return Part(folder, about["length"], about["task"], about["nbytes"], statistics, levels, about["note"])


def _sum(path: Path, sync: bool = False) -> tuple[int, int]:
    """Return a file's size and CRC-32, after it is on disk."""
    crc = size = 0
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        while block := file.read(1 << 20):
            crc, size = zlib.crc32(block, crc), size + len(block)
    return size, crc
