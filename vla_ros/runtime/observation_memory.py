"""Memory that two processes share, for the arrays of one observation: written by one, read by the other, in turns."""

import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vla_ros.data_types import Array

Layout = dict[str, tuple[int, tuple[int, ...], str]]
"""Key → offset in bytes, shape, dtype."""

_ALIGNMENT = 64
_SHARED = Path("/dev/shm")  # noqa: S108 (memory; the file in it has no name)


class ObservationMemory:
    """A block of shared memory behind a file descriptor that has no name, so that nothing is left over.

    Args:
        fd: Of a block made by another process; None makes one.
        size: Bytes of a new block.

    Attributes:
        fd: To be inherited by the other process.
    """

    def __init__(self, fd: int | None = None, size: int = 0) -> None:
        if fd is None:
            with tempfile.TemporaryFile(dir=_SHARED if _SHARED.is_dir() else None) as file:
                file.truncate(max(size, 1))
                fd = os.dup(file.fileno())
        self.fd = fd
        self._map = mmap.mmap(fd, 0)

    def write(self, values: Mapping[str, Array]) -> Layout:
        """Copy arrays in; return where each lies.

        Raises:
            ValueError: They need more than the block holds.
        """
        layout: Layout = {}
        offset = 0
        for key, value in values.items():
            array = np.ascontiguousarray(value)
            end = offset + array.nbytes
            if end > len(self._map):
                raise ValueError(f"an observation of more than {len(self._map)} bytes does not fit the shared memory")
            np.frombuffer(self._map, np.uint8, array.nbytes, offset)[:] = array.reshape(-1).view(np.uint8)
            layout[key] = (offset, array.shape, str(array.dtype))
            offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        return layout

    def read(self, layout: Layout) -> dict[str, Array]:
        """Return copies of the arrays that a layout describes."""
        return {
            key: np.frombuffer(self._map, dtype, int(np.prod(shape)), offset).reshape(shape).copy()
            for key, (offset, shape, dtype) in layout.items()
        }

    def close(self) -> None:
        """Give the block up."""
        self._map.close()
        os.close(self.fd)


def bytes_needed(values: Mapping[str, Array], n_obs_steps: int) -> int:
    """Return how many bytes an observation of `n_obs_steps` frames like this one takes at most."""
    return sum(value.nbytes * n_obs_steps + _ALIGNMENT for value in values.values())
