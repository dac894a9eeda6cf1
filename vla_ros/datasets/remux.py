"""Stretches of videos, cut and joined packet by packet: nothing is decoded, and every frame is shown at exactly k/fps.

A stretch begins at a key frame where its writer encoded the episode by itself, as LeRobot and this package do. Where it
does not, `starts_at_key_frame` says so and the caller encodes it anew.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vla_ros.data_types import DatasetError
from vla_ros.datasets.images import TIME_TOLERANCE_S


@dataclass(frozen=True)
class Stretch:
    """The frames of one episode in a video.

    Attributes:
        path: The file.
        start_s: When the first frame is shown.
        length: Frames.
    """

    path: Path
    start_s: float
    length: int


@dataclass(frozen=True)
class StretchInfo:
    """What has to be equal, or counted, before stretches are joined.

    Attributes:
        coding: Codec, size, pixel format and decoder configuration: files hold stretches of one only.
        delay: Frames by which a packet may precede the frames that are shown before it, 0 without B-frames.
        nbytes: Of its packets.
    """

    coding: tuple[object, ...]
    delay: int
    nbytes: int


def inspect_stretch(stretch: Stretch, fps: int) -> StretchInfo | None:
    """Read a stretch's packets; None where it does not begin at a key frame and cannot be cut.

    Raises:
        DatasetError: The video is missing, unreadable, or does not hold these frames at these times.
    """
    with _opened(stretch.path) as (container, stream):
        coding = (
            stream.codec_context.name,
            stream.codec_context.width,
            stream.codec_context.height,
            stream.codec_context.pix_fmt,
            bytes(stream.codec_context.extradata or b""),
        )
        delay = nbytes = 0
        for number, (ordinal, packet) in enumerate(_packets(container, stream, stretch, fps)):
            if number == 0 and (ordinal != 0 or not packet.is_keyframe):
                return None
            delay, nbytes = max(delay, number - ordinal), nbytes + packet.size
    return StretchInfo(coding, delay, nbytes)


def join_stretches(stretches: Sequence[Stretch], path: Path, fps: int, delay: int) -> None:
    """Write stretches of the same coding one after the other into an mp4; frame k is shown at exactly k/fps.

    Args:
        stretches: In order; each begins at a key frame.
        path: The file to write.
        fps: Frames per second.
        delay: The largest of theirs, see `StretchInfo`.

    Raises:
        DatasetError: As `inspect_stretch`.
    """
    base, first = Fraction(1, fps), 0
    with av.open(str(path), "w", format="mp4") as output:
        target: Any = None
        for stretch in stretches:
            with _opened(stretch.path) as (container, stream):
                if target is None:
                    target = output.add_stream_from_template(stream, opaque=True)
                    target.time_base = base
                for number, (ordinal, packet) in enumerate(_packets(container, stream, stretch, fps)):
                    packet.pts, packet.dts = first + ordinal, first + number - delay
                    packet.duration, packet.time_base = 1, base
                    packet.stream = target
                    output.mux(packet)
            first += stretch.length


def _packets(container: Any, stream: Any, stretch: Stretch, fps: int) -> Iterator[tuple[int, Any]]:
    """Yield the packets of a stretch in decoding order, each with the number of its frame.

    Raises:
        DatasetError: Frames are missing, doubled or not at their times.
    """
    tick = stream.time_base
    container.seek(max(0, round(Fraction(stretch.start_s) / tick)), stream=stream, backward=True)
    found: set[int] = set()
    for packet in container.demux(stream):
        if packet.pts is None or packet.size == 0:  # the demuxer's end marker
            continue
        at = (float(packet.pts * tick) - stretch.start_s) * fps
        ordinal = round(at)
        if not 0 <= ordinal < stretch.length:
            if len(found) == stretch.length:
                break
            continue
        if abs(at - ordinal) > TIME_TOLERANCE_S * fps or ordinal in found:
            raise DatasetError(
                f"{stretch.path}: the frame at {float(packet.pts * tick):.4f} s is not at a multiple of 1/{fps} s from "
                f"{stretch.start_s:.4f} s, or is there twice."
            )
        found.add(ordinal)
        yield ordinal, packet
    if len(found) != stretch.length:
        raise DatasetError(
            f"{stretch.path}: holds {len(found)} of the {stretch.length} frames from {stretch.start_s:.4f} s."
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    if not path.is_file():
        raise DatasetError(f"{path}: no such video file; the dataset is incomplete.")
    try:
        with av.open(str(path)) as container:
            yield container, container.streams.video[0]
    except (av.FFmpegError, IndexError, ValueError) as reason:  # damaged names are no UTF-8
        if getattr(reason, "errno", None) == errno.ENOSPC:  # of the disk that is written to
            raise
        raise DatasetError(f"{path}: not readable as video: {' '.join(str(reason).split())[:200]}") from reason
