"""TFMessages → transforms: translation, m, and quaternion of a child frame in its parent. No time, no ROS import."""

import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS, DecodeError
from vla_ros.data_types.foreign_text import plain
from vla_ros.data_types.rotations import inverse, matrix_of_quaternion, multiply
from vla_ros.messages.cdr import PREFIX
from vla_ros.messages.forms.vectors import check_quaternion

TF_MESSAGE = "tf2_msgs/msg/TFMessage"
MAX_TRANSFORMS = 1024
"""Most transforms of a message, and most frames of a tree; a humanoid has a hundred."""
IDENTITY = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])

Transform = NDArray[np.float64]
"""float64 [7]: x, y, z, m, and the quaternion x, y, z, w."""


class StampedTransform(NamedTuple):
    """Where a child frame is in its parent at a time."""

    stamp_ns: int
    parent: str
    child: str
    value: Transform


def transforms_of(message: Any, place: str) -> list[StampedTransform]:
    """Return the transforms of a tf2_msgs/TFMessage; frame names without the leading slash that ROS 1 wrote.

    Raises:
        DecodeError: One is no transform, of a frame in itself, or there are too many.
    """
    if len(message.transforms) > MAX_TRANSFORMS:
        raise DecodeError(
            f"{place}: {len(message.transforms)} transforms in a message; at most {MAX_TRANSFORMS} are read"
        )
    return [_transform_of(item, place) for item in message.transforms]


def _transform_of(item: Any, place: str) -> StampedTransform:
    parent, child = item.header.frame_id.lstrip("/"), item.child_frame_id.lstrip("/")
    if not parent or not child or parent == child:
        raise DecodeError(f"{place}: a transform is of '{plain(child)}' in '{plain(parent)}'; they must be two frames")
    move, turn = item.transform.translation, item.transform.rotation
    value = np.array([move.x, move.y, move.z, turn.x, turn.y, turn.z, turn.w])
    if not np.isfinite(value[:3]).all():
        raise DecodeError(f"{place}: the translation of '{plain(child)}' in '{plain(parent)}' is not finite")
    check_quaternion(value[3:], f"the rotation of '{plain(child)}'", place)
    value[3:] /= np.linalg.norm(value[3:])
    stamp = item.header.stamp
    return StampedTransform(int(stamp.sec) * NANOSECONDS + int(stamp.nanosec), parent, child, value)


def composed(outer: Transform, inner: Transform) -> Transform:
    """Return where c is in a, of where b is in a (`outer`) and c is in b (`inner`)."""
    position = outer[:3] + matrix_of_quaternion(outer[3:]) @ inner[:3]
    return np.concatenate([position, multiply(outer[3:], inner[3:])])


def inverted(transform: Transform) -> Transform:
    """Return where a is in b, of where b is in a."""
    turn = inverse(transform[3:])
    return np.concatenate([-(matrix_of_quaternion(turn) @ transform[:3]), turn])


def first_transform(raw: bytes | memoryview) -> tuple[int, str]:
    """Return stamp, ns, and child frame of the first transform of a serialised TFMessage; (0, "") where it has none.

    Raises:
        DecodeError: The bytes are no TFMessage.
    """
    try:
        order = {b"\0\1": "<", b"\0\0": ">"}[bytes(raw[:2])]
        if not struct.unpack_from(f"{order}I", raw, PREFIX)[0]:
            return 0, ""
        seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", raw, PREFIX + 4)
        at = PREFIX + -(-(16 + length) // 4) * 4
        child_length = struct.unpack_from(f"{order}I", raw, at)[0]
        (child,) = struct.unpack_from(f"{child_length}s", raw, at + 4)
    except (struct.error, KeyError) as reason:
        raise DecodeError(f"{len(raw)} bytes hold no TFMessage; they are damaged or of another type") from reason
    return seconds * NANOSECONDS + nanoseconds, str(child[:-1], "utf-8", "replace").lstrip("/")
