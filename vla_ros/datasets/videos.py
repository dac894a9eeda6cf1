"""Video files that many episodes share: segments, one per episode, joined without encoding again."""

from pathlib import Path

from vla_ros.datasets.images import join_videos
from vla_ros.datasets.layout import VIDEO_PATH, FileAddress


class RollingVideo:
    """Collects an image feature's segments into numbered mp4 files that a size limit separates.

    Args:
        root: Folder of the dataset.
        key: The image feature.
        fps: Frames per second.
        limit_bytes: A file that a segment would take beyond this is closed, and the next begun.
        first_number: Running number of the first file.
    """

    def __init__(self, root: Path, key: str, fps: int, limit_bytes: int, first_number: int = 0) -> None:
        self._root, self._key, self._fps, self._limit = root, key, fps, limit_bytes
        self._address = FileAddress.of(first_number)
        self._parts: list[Path] = []
        self._bytes = self._frames = 0

    def add(self, segment: Path, length: int) -> dict[str, int | float]:
        """Take an episode's segment of `length` frames; return where it lies, as ``meta/episodes`` says it."""
        size = segment.stat().st_size
        if self._parts and self._bytes + size > self._limit:
            self.close()
            self._address = FileAddress.of(self._address.number + 1)
        first, self._frames = self._frames, self._frames + length
        self._parts.append(segment)
        self._bytes += size
        return {
            "chunk_index": self._address.chunk_index,
            "file_index": self._address.file_index,
            "from_timestamp": first / self._fps,
            "to_timestamp": self._frames / self._fps,
        }

    def close(self) -> None:
        """Write the current file."""
        if not self._parts:
            return
        path = self._address.path(self._root, VIDEO_PATH, self._key)
        path.parent.mkdir(parents=True, exist_ok=True)
        join_videos(self._parts, path, self._fps)
        self._parts, self._bytes, self._frames = [], 0, 0
