"""The video files of one feature of a new dataset: stretches of the old ones, joined packet by packet.

A stretch that does not begin at a key frame cannot be cut; it alone is encoded anew, and a note says so.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from vla_ros.datasets.images import VideoEncoder
from vla_ros.datasets.layout import VIDEO_PATH, Codec, FileAddress, codec_of
from vla_ros.datasets.remux import Stretch, StretchInfo, inspect_stretch, join_stretches
from vla_ros.datasets.video_access import VideoReader

if TYPE_CHECKING:
    from vla_ros.dataset_tools.rewrite import NewDataset

_BLOCK = 32
"""Decoded frames held at once."""


class Film:
    """Collects stretches into numbered mp4 files; a file holds one coding, up to a size.

    Args:
        root: Folder of the new dataset.
        key: The video feature.
        new: The dataset, for its frame rate, codec and notes.
        shape: [h, w, 3] of the frames.
        limit_bytes: A file that a stretch would take beyond this is closed, and the next begun.
    """

    def __init__(self, root: Path, key: str, new: "NewDataset", shape: tuple[int, ...], limit_bytes: int) -> None:
        self._root, self._key, self._new, self._shape, self._limit = root, key, new, shape, limit_bytes
        self._fps = new.fps
        self._number = self._encoded = 0
        self._parts: list[Stretch] = []
        self._infos: list[StretchInfo] = []

    def add(self, stretch: Stretch) -> dict[str, Any]:
        """Take an episode's stretch; return where it will lie, as ``meta/episodes`` says it."""
        info = inspect_stretch(stretch, self._fps)
        if info is None:
            stretch = self._encode_stretch(stretch)
            info = inspect_stretch(stretch, self._fps)
        if info is None:
            raise RuntimeError(f"{stretch.path}: the encoder did not begin with a key frame")
        size = sum(own.nbytes for own in self._infos) + info.nbytes
        if self._parts and (size > self._limit or info.coding != self._infos[0].coding):
            self.close()
        first = sum(part.length for part in self._parts)
        self._parts.append(stretch)
        self._infos.append(info)
        address = FileAddress.of(self._number)
        return {
            "chunk_index": address.chunk_index,
            "file_index": address.file_index,
            "from_timestamp": first / self._fps,
            "to_timestamp": (first + stretch.length) / self._fps,
        }

    def add_images(self, images: Iterable[NDArray[np.uint8]], length: int) -> dict[str, Any]:
        """Encode an episode's `length` images, uint8 [h, w, 3], and take them; otherwise as `add`."""
        return self.add(Stretch(self._encode(images, self._new.codec or "av1"), 0.0, length))

    def _encode_stretch(self, stretch: Stretch) -> Stretch:
        """Encode a stretch that cannot be cut into a file of its own."""
        codec = self._new.codec or _codec_of_file(stretch.path)
        self._new.notes.append(
            f"{stretch.path}: the {stretch.length} frames from {stretch.start_s:.4f} s do not begin at a key frame; "
            f"they were decoded and encoded anew as {codec}"
        )
        reader = VideoReader(stretch.path, self._shape, self._fps)
        blocks = range(0, stretch.length, _BLOCK)
        numbers = (range(first, min(first + _BLOCK, stretch.length)) for first in blocks)
        try:
            images = (image for block in numbers for image in reader.read(stretch.start_s, block))
            return Stretch(self._encode(images, codec), 0.0, stretch.length)
        finally:
            reader.close()

    def _encode(self, images: Iterable[NDArray[np.uint8]], codec: Codec) -> Path:
        path = self._root / f".{self._key}-{self._encoded:06d}.mp4"
        self._encoded += 1
        encoder = VideoEncoder(path, (self._shape[0], self._shape[1]), self._fps, codec, self._new.crf)
        try:
            for image in images:
                encoder.add(image)
            encoder.close()
        except BaseException:
            encoder.abandon()
            raise
        return path

    def close(self) -> None:
        """Write the current file."""
        if not self._parts:
            return
        path = FileAddress.of(self._number).path(self._root, VIDEO_PATH, self._key)
        path.parent.mkdir(parents=True, exist_ok=True)
        join_stretches(self._parts, path, self._fps, max(info.delay for info in self._infos))
        for part in self._parts:
            if part.path.parent == self._root:
                part.path.unlink()
        self._parts, self._infos, self._number = [], [], self._number + 1


def _codec_of_file(path: Path) -> Codec:
    with av.open(str(path)) as container:
        name = container.streams.video[0].codec_context.name
    return codec_of("av1" if "av1" in name or "dav1d" in name else "h264")
