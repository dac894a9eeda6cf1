"""JointStates of one or several drivers: which joints the bytes of a message carry, and their values. No ROS import."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DecodeError
from vla_ros.messages.cdr import PREFIX
from vla_ros.messages.forms.vectors import JOINT_FIELDS, joint_values

JOINT_STATE = "sensor_msgs/msg/JointState"

MAX_JOINTS = 4096
"""Most joints of a message; every name is read when it arrives, so a sender must not choose how many."""

_COUNT = {b"\0\1": struct.Struct("<I"), b"\0\0": struct.Struct(">I")}


def carried_joints(raw: bytes | memoryview, field: str) -> tuple[tuple[str, ...], bool]:
    """Return the names in a serialised JointState, and whether it has values in one of its arrays.

    Reads the names and the arrays' lengths only: a callback that stores 500 messages a second has no time for more.

    Args:
        raw: CDR bytes.
        field: ``position``, ``velocity`` or ``effort``.

    Raises:
        DecodeError: The bytes are no JointState, or name more than `MAX_JOINTS` joints.
    """
    try:
        return _carried(raw, field)
    except (struct.error, ValueError, KeyError, IndexError) as reason:
        raise DecodeError(f"{len(raw)} bytes hold no JointState; they are damaged or of another type") from reason


def _carried(raw: bytes | memoryview, field: str) -> tuple[tuple[str, ...], bool]:
    read = _COUNT[bytes(raw[:2])].unpack_from
    frame_length = read(raw, PREFIX + 8)[0]
    at = _aligned(PREFIX + 12 + frame_length, 4)
    count = read(raw, at)[0]
    if count > MAX_JOINTS:
        raise DecodeError(f"the message names {count} joints; at most {MAX_JOINTS} are read")
    at += 4
    names = []
    for _ in range(count):
        at = _aligned(at, 4)
        length = read(raw, at)[0]
        if not 0 < length <= len(raw) - at - 4:
            raise ValueError("a name does not fit")
        names.append(str(bytes(raw[at + 4 : at + 3 + length]), "utf-8"))
        at += 4 + length
    for other in JOINT_FIELDS:
        at = _aligned(at, 4)
        length = read(raw, at)[0]
        if other == field:
            return tuple(names), length > 0
        at += 4
        if length:
            at = _aligned(at, 8) + 8 * length
    raise KeyError(field)


def _aligned(position: int, size: int) -> int:
    """Return where the next number of a size stands; alignment counts from behind the prefix."""
    return PREFIX + -(-(position - PREFIX) // size) * size


def partial_joint_values(message: Any, joints: tuple[str, ...], field: str, place: str) -> NDArray[np.float64]:
    """Return one field of a JointState for those of the named joints that it carries, NaN for the others: float64 [S].

    Raises:
        DecodeError: As `joint_values`, but for joints that are missing.
    """
    there = set(message.name)
    carried = tuple(joint for joint in joints if joint in there)
    values = np.full(len(joints), np.nan)
    values[[joint in there for joint in joints]] = joint_values(message, carried, field, place)
    return values
