"""Frames of videos in any order: open files are kept, neighbouring frames are decoded without another seek.

Training reads a few frames here and a few there. With a key frame at every other frame (`vla_ros.datasets.images`) a
frame costs two decodes at most; what is saved here is opening the file, whose index grows with its length.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vla_ros.data_types import DatasetError
from vla_ros.datasets.images import TIME_TOLERANCE_S

_NEAR = 4
"""Frames ahead of the last one decoded that are reached by decoding on; farther ones by a seek."""


class VideoReader:
    """One open video; for one thread at a time.

    Args:
        path: The file.
        shape: [h, w, 3] that its frames must have.
        fps: Frames per second.

    Raises:
        DatasetError: The file is missing or no video, or has another size.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], fps: int) -> None:
        if not path.is_file():
            raise DatasetError(f"{path}: no such video file; the dataset is incomplete.")
        self._path, self._shape, self._fps = path, tuple(shape), fps
        with _unreadable(path):
            self._container: Any = av.open(str(path))
            self._stream: Any = self._container.streams.video[0]
            # A decoder's threads hand out frames late, which after every seek costs more than they gain.
            self._stream.thread_type = "NONE"
            self._stream.codec_context.thread_count = 1
        if (self._stream.height, self._stream.width, 3) != self._shape:
            self.close()
            raise DatasetError(
                f"{path}: holds {self._stream.height}x{self._stream.width} pixels, info.json says "
                f"{shape[0]}x{shape[1]}."
            )
        self._reformatter = VideoReformatter()
        self._decoded: Iterator[Any] = iter(())
        self._last_s: float | None = None

    def read(self, start_s: float, numbers: Sequence[int]) -> NDArray[np.uint8]:
        """Decode frames of one episode.

        Args:
            start_s: When its first frame is shown.
            numbers: Frames counted from there, ascending.

        Returns:
            uint8 [len(numbers), h, w, 3], RGB.

        Raises:
            DatasetError: The file is damaged or has no frame where one should be.
        """
        frames = np.empty((len(numbers), *self._shape), np.uint8)
        with _unreadable(self._path):
            for place, number in enumerate(numbers):
                frame = self._frame_at(start_s + number / self._fps)
                frames[place] = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return frames

    def _frame_at(self, wanted_s: float) -> Any:
        ahead_s = None if self._last_s is None else wanted_s - self._last_s
        if ahead_s is None or not TIME_TOLERANCE_S < ahead_s < (_NEAR + 0.5) / self._fps:
            target = max(0, round(Fraction(wanted_s) / self._stream.time_base))
            self._container.seek(target, stream=self._stream, backward=True)
            self._decoded = self._container.decode(self._stream)
        self._last_s = None  # unknown should the decoder fail
        for frame in self._decoded:
            shown_s = float(frame.pts * self._stream.time_base)
            if shown_s < wanted_s - TIME_TOLERANCE_S:
                continue
            if shown_s > wanted_s + TIME_TOLERANCE_S:
                raise DatasetError(f"{self._path}: has no frame at {wanted_s:.4f} s, the next is at {shown_s:.4f} s.")
            self._last_s = shown_s
            return frame
        raise DatasetError(f"{self._path}: ends before the frame at {wanted_s:.4f} s.")

    def close(self) -> None:
        """Close the file."""
        self._decoded = iter(())
        self._container.close()


class VideoPool:
    """Open videos, lent to one thread at a time; the longest unused are closed.

    Args:
        fps: Frames per second of all of them.
        limit: How many stay open while nobody reads them.
    """

    def __init__(self, fps: int, limit: int = 8) -> None:
        self._fps, self._limit = fps, limit
        self._idle: OrderedDict[int, tuple[Path, VideoReader]] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def reader(self, path: Path, shape: tuple[int, ...]) -> Iterator[VideoReader]:
        """Lend a reader of a file; errors as `VideoReader`."""
        with self._lock:
            number = next((number for number, (own, _) in reversed(self._idle.items()) if own == path), None)
            reader = None if number is None else self._idle.pop(number)[1]
        reader = reader or VideoReader(path, shape, self._fps)
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        surplus = []
        with self._lock:
            self._idle[id(reader)] = (path, reader)
            while len(self._idle) > self._limit:
                surplus.append(self._idle.popitem(last=False)[1][1])
        for unused in surplus:
            unused.close()

    def close(self) -> None:
        """Close all files that nobody reads."""
        with self._lock:
            readers = [reader for _, reader in self._idle.values()]
            self._idle.clear()
        for reader in readers:
            reader.close()


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, IndexError, ValueError) as reason:  # damaged names are no UTF-8
        raise DatasetError(f"{path}: not readable as video: {reason}") from reason
