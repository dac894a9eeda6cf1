"""A file of fixed-size rows that fills up as they are read: decoded frames, kept on disk up to a limit.

The file has no name: whatever ends the process, its space is free again. Rows are read into the caller's arrays and
not mapped, so that they count as the system's page cache and not as this process's memory.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DatasetError

_FREE_RATIO = 0.5
"""Ratio of the free disk that a cache takes at most."""


_LOCKS = 64
"""Groups that may be written at the same time."""


class FrameCache:
    """Groups of rows (the frames of an episode), each group written whole before any of it is read.

    Args:
        folder: On the disk to use; None takes the system's folder for temporary files.
        limit_bytes: Most that the file may hold; never more than half of what is free on the disk.
    """

    def __init__(self, folder: Path | None, limit_bytes: int) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        there = next(place for place in (self._folder.absolute(), *self._folder.absolute().parents) if place.is_dir())
        self.free_bytes = min(limit_bytes, int(shutil.disk_usage(there).free * _FREE_RATIO))
        self._file: IO[bytes] | None = None
        self._lock = Lock()
        self._end = 0

    @property
    def descriptor(self) -> int:
        """The file's, which is made when the first row is written.

        Raises:
            DatasetError: The folder cannot be written to.
        """
        with self._lock:
            if self._file is None:
                try:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # lives as long as this
                except OSError as reason:
                    raise DatasetError(f"{self._folder}: cannot hold a cache of frames: {reason.strerror}.") from reason
            return self._file.fileno()

    def allot(self, lengths: Sequence[int], row_bytes: int) -> "CachedRows":
        """Set space aside for the first groups that fit.

        Args:
            lengths: Rows of each group.
            row_bytes: Size of one row.
        """
        ends = np.cumsum(lengths) * row_bytes
        count = int(np.searchsorted(ends, self.free_bytes, side="right"))
        rows = CachedRows(self, self._end, row_bytes, lengths[:count])
        taken = int(ends[count - 1]) if count else 0
        self._end, self.free_bytes = self._end + taken, self.free_bytes - taken
        return rows

    def close(self) -> None:
        """Free the disk."""
        with self._lock:
            if self._file is not None:
                self._file.close()


class CachedRows:
    """Rows of one kind in a cache; made by `FrameCache.allot`.

    Attributes:
        groups: How many groups have space, counted from the first.
    """

    def __init__(self, cache: FrameCache, offset: int, row_bytes: int, lengths: Sequence[int]) -> None:
        self._cache, self._offset, self._row_bytes = cache, offset, row_bytes
        self.groups = len(lengths)
        self._first = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._filled = np.zeros(len(lengths), np.bool_)
        self._is_full = False
        self._locks = [Lock() for _ in range(_LOCKS)]

    def fill(self, group: int, chunks: Callable[[], Iterable[NDArray[Any]]]) -> bool:
        """Write a group unless it is there already; return whether it is there now: the disk may be full.

        Args:
            group: Below `groups`.
            chunks: Called where it is missing; gives its rows in order, some at a time.
        """
        if self._filled[group]:
            return True
        with self._locks[group % _LOCKS]:  # two threads that want the same episode decode it once
            if self._filled[group]:
                return True
            if self._is_full:
                return False
            place = self._place(int(self._first[group]))
            for chunk in chunks():
                content = _bytes_of(np.ascontiguousarray(chunk))
                try:
                    _write(self._cache.descriptor, content, place)
                except OSError:  # the disk is full; what is in the cache stays there
                    self._is_full = True
                    return False
                place += len(content)
            self._filled[group] = True
        return True

    def read(self, group: int, numbers: NDArray[np.int64], into: NDArray[Any]) -> None:
        """Copy rows of a group that is there.

        Args:
            group: Below `groups`.
            numbers: Rows counted from its first, ascending.
            into: C-contiguous, [len(numbers), ...].
        """
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(numbers)], strict=True):
            content = _bytes_of(into[first:last])
            place = self._place(int(self._first[group] + numbers[first]))
            while content:
                count = os.preadv(self._cache.descriptor, [content], place)
                if count <= 0:
                    raise RuntimeError("the cache of frames ends before a row that was written to it")
                place, content = place + count, content[count:]

    def _place(self, row: int) -> int:
        return self._offset + row * self._row_bytes


def _write(descriptor: int, content: memoryview, place: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, place)
        place, content = place + written, content[written:]


def _bytes_of(values: NDArray[Any]) -> memoryview:
    """Return contiguous values as they lie in memory."""
    return memoryview(values.reshape(-1).view(np.uint8).data)
