"""Images to and from files: lossless PNG bytes, and AV1 or H.264 video with exact frame times.

Frame k of an mp4 is shown at exactly k/fps. Images here are uint8 [h, w, 3], RGB. Nothing here knows of
episodes or features.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DatasetError
from vla_ros.datasets.layout import Codec

_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    # A key frame at every other frame: training reads frames at random, and each then costs two decodes at most.
    "av1": ("libsvtav1", {"g": "2", "crf": "30", "preset": "12"}),
    "h264": ("libx264", {"g": "2", "crf": "23", "preset": "veryfast", "bf": "0"}),
}

TIME_TOLERANCE_S = 1e-4
"""How far a frame may lie from where the dataset says it is; the tolerance of the format."""


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return an image as the bytes of a PNG file."""
    done, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise RuntimeError("cv2 could not encode an image as PNG")
    return data.tobytes()


def decode_image(data: bytes, source: str) -> NDArray[np.uint8]:
    """Return the image in the bytes of a PNG or JPEG file.

    Raises:
        DatasetError: The bytes are no image; `source` says whose they are.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise DatasetError(f"{source}: {len(data)} bytes that are neither PNG nor JPEG.")
    return np.ascontiguousarray(image[..., ::-1])


class VideoEncoder:
    """Writes frames straight into one mp4 file.

    Args:
        path: File to write.
        size: (height, width) of every frame, in pixels.
        fps: Frames per second; frame k is stamped k/fps.
        codec: ``av1`` or ``h264``.
        crf: Quality, lower is better; None takes the codec's default.

    Raises:
        DatasetError: The codec cannot store this size, or is not in this build of PyAV.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: int, codec: Codec, crf: int | None = None) -> None:
        check_video_size(*size, codec)
        name, options = _ENCODERS[codec]
        options = options if crf is None else {**options, "crf": str(crf)}
        if name not in av.codecs_available:
            raise DatasetError(
                f"This PyAV has no {name} encoder for codec '{codec}'; install the wheel of av from PyPI."
            )
        os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 prints 25 lines for every file otherwise
        self._container = av.open(str(path), "w", format="mp4")
        self._stream: Any = self._container.add_stream(name, rate=fps, options=options)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, fps)
        self._real_time_before = _real_time_threads()
        self._stream.codec_context.open()
        _leave_real_time(self._real_time_before)
        self._time_base = Fraction(1, fps)
        self.frames = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append one frame, uint8 [h, w, 3], RGB."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self.frames, self._time_base
        self._container.mux(self._stream.encode(frame))
        _leave_real_time(self._real_time_before)  # some are started by the frames
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and the file's index."""
        self._container.mux(self._stream.encode())
        self._container.close()

    def abandon(self) -> None:
        """Close the file without finishing it; harmless after `close`."""
        self._container.close()


def _real_time_threads() -> set[int]:
    """Return the numbers of this process's threads that have real-time priority; none on another system than Linux."""
    found = set()
    tasks = Path("/proc/self/task")
    for path in tasks.iterdir() if tasks.is_dir() else ():
        with suppress(OSError):  # it may have ended
            if os.sched_getscheduler(int(path.name)) in (os.SCHED_FIFO, os.SCHED_RR):
                found.add(int(path.name))
    return found


def _leave_real_time(before: set[int]) -> None:
    """Take real-time priority from all threads that had none before.

    SVT-AV1 asks for SCHED_FIFO at 99 where it is allowed to (as root, in most containers), for dozens of threads of its
    own and for the one that opens it. They would hold up the robot's threads and the machine itself.
    """
    for thread in _real_time_threads() - before:
        with suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def check_video_size(height: int, width: int, codec: Codec) -> None:
    """Refuse a size that 4:2:0 video cannot hold.

    Raises:
        DatasetError: Says which sizes fit and what to do.
    """
    if height % 2 or width % 2 or min(height, width) < 16:
        raise DatasetError(
            f"{codec} video stores even sizes of 16 pixels and more, got {height}x{width}; "
            "change the image size in the contract or store PNG (image_storage 'png')."
        )


def join_videos(parts: Sequence[Path], path: Path, fps: int) -> None:
    """Write `parts`, encoded alike, one after the other into one mp4 without encoding again.

    The offset of a part is its number of preceding frames over fps, in integers: summed durations drift.
    """
    before = 0
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = None
        for part in parts:
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(video, opaque=True)
                before += _append_packets(source, output, stream, Fraction(before, fps))


def _append_packets(source: Any, output: Any, stream: Any, offset_s: Fraction) -> int:
    """Copy one part's packets into `stream`, later by `offset_s`; return how many there were."""
    video = source.streams.video[0]
    offset = offset_s / video.time_base
    if offset.denominator != 1:
        raise RuntimeError(f"time base {video.time_base} cannot express an offset of {offset_s} s")
    count = 0
    for packet in source.demux(video):
        if packet.dts is None or packet.size == 0:  # the demuxer's end marker
            continue
        packet.pts += int(offset)
        packet.dts += int(offset)
        packet.stream = stream
        output.mux(packet)
        count += 1
    return count


def read_frames(path: Path, start_s: float, count: int, fps: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Decode `count` frames, the first of them shown at `start_s`.

    Returns:
        uint8 [count, h, w, 3], RGB.

    Raises:
        DatasetError: The file is missing or no video, has another size, or has no frame where one should be.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such video file; the dataset is incomplete.")
    frames = np.empty((count, *shape), np.uint8)
    try:
        with av.open(str(path)) as container:
            _decode_into(frames, container, path, start_s, fps)
    except (av.FFmpegError, IndexError, ValueError) as reason:  # damaged names are no UTF-8
        raise DatasetError(f"{path}: not readable as video: {reason}") from reason
    return frames


def _decode_into(frames: NDArray[np.uint8], container: Any, path: Path, start_s: float, fps: int) -> None:
    stream = container.streams.video[0]
    if (stream.height, stream.width, 3) != frames.shape[1:]:
        raise DatasetError(
            f"{path}: holds {stream.height}x{stream.width} pixels, info.json says {frames.shape[1]}x{frames.shape[2]}."
        )
    stream.thread_type = "AUTO"
    container.seek(max(0, round(start_s / stream.time_base)), stream=stream, backward=True)
    found = 0
    for frame in container.decode(stream):
        wanted_s, got_s = start_s + found / fps, float(frame.pts * stream.time_base)
        if got_s < wanted_s - TIME_TOLERANCE_S and found == 0:
            continue  # between the key frame and the first frame wanted
        if abs(got_s - wanted_s) > TIME_TOLERANCE_S:
            raise DatasetError(f"{path}: has no frame at {wanted_s:.4f} s, the next is at {got_s:.4f} s.")
        frames[found] = frame.to_ndarray(format="rgb24")
        found += 1
        if found == len(frames):
            return
    raise DatasetError(f"{path}: ends after {found} of the {len(frames)} frames from {start_s:.4f} s.")


def frame_times(path: Path) -> list[Fraction]:
    """Return when each frame of a video is shown, in s, exactly; nothing is decoded.

    Raises:
        DatasetError: The file is missing or no video.
    """
    try:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            return sorted(p.pts * video.time_base for p in container.demux(video) if p.pts is not None and p.size)
    except (av.FFmpegError, IndexError, ValueError) as reason:
        raise DatasetError(f"{path}: not readable as video: {reason}") from reason
