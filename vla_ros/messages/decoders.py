"""Message fields → arrays, by the types' rows. Duck-typed: rclpy's and rosbags' messages both work. No ROS import.

A decoder reads what the contract says and refuses the rest: a missing joint, another frame or a number that is not
finite is a `DecodeError` with its place, never a guess. Nothing else leaves `decode_input` and `decode_action`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import INSTRUCTION, ActionSpec, InputSpec, RecordSpec
from vla_ros.contract.types import AsInput, AsRecord, has_header, message_types
from vla_ros.data_types import Array, DecodeError
from vla_ros.messages.decode_failures import unforeseen
from vla_ros.messages.forms.joints import partial_joint_values
from vla_ros.messages.forms.vectors import check_finite
from vla_ros.messages.frames import check_frame

__all__ = ["check_frame", "decode_action", "decode_input"]


def decode_input(spec: InputSpec, message: Any) -> Array:
    """Return what one message of a stream contributes to its feature.

    Args:
        spec: The stream.
        message: Any object with the fields of `spec.type`.

    Returns:
        Image uint8 [h, w, 3] RGB; points float32 [N, F]; vector float32 [S]; of a window, the one sample that the
        message is, float32 [F]; of an instruction, str [].

    Raises:
        DecodeError: The message does not hold what the contract says; names topic, key, expected and got. Whatever
            else goes wrong in a decoder, with memory too, is one as well.
    """
    return _decoded(spec, message, _input_type(spec.type).decode)


def decode_some_joints(spec: InputSpec, message: Any) -> Array:
    """Return the joints of an input that one JointState carries, NaN for the others, float32 [S]; as `decode_input`."""
    return _decoded(spec, message, _some_joints)


def _some_joints(spec: InputSpec, message: Any, place: str) -> Array:
    joints = spec.ros_names or spec.names
    carried = np.isin(joints, list(message.name))
    values = partial_joint_values(message, joints, spec.fields[0], place)
    check_finite(values[carried], tuple(np.array(spec.names)[carried]), place)
    return values.astype(np.float32)


def _decoded(spec: InputSpec, message: Any, decode: Callable[[InputSpec, Any, str], Array]) -> Array:
    place = f"{spec.topic} ({spec.key})"
    try:
        if spec.frame is not None and has_header(spec.type):
            check_frame(message.header.frame_id, spec.frame, place)
        value = decode(spec, message, place)
        _check_form(spec, value)
    except DecodeError:
        raise
    except Exception as reason:
        raise unforeseen(place, reason) from reason
    return value


def _input_type(type_name: str) -> AsInput:
    kind = message_types()[type_name].as_input
    if kind is None:
        raise KeyError(f"{type_name} is no input")
    return kind


def _check_form(spec: InputSpec, value: Array) -> None:
    """Hold a decoder to the contract: a value of another form would fail later, where there is no message to blame."""
    if spec.key == INSTRUCTION:
        return
    shape = spec.shape[1:] if spec.window is not None else spec.shape
    dtype = np.uint8 if spec.image is not None else np.float32
    if value.shape != shape or value.dtype != dtype:
        raise TypeError(f"the decoder of {spec.type} made {value.dtype} {value.shape}, not {np.dtype(dtype)} {shape}")


def decode_action(
    action: ActionSpec, record_type: str, message: Any, record: RecordSpec | None = None
) -> NDArray[np.float64]:
    """Return the numbers of the action that a recorded message holds.

    Args:
        action: The contract's action.
        record_type: ROS type of the message, one of `vla_ros.contract.types.ACTION_SOURCES`.
        message: Any object with that type's fields.
        record: The part of the record that the message is of; `action.record` by default.

    Returns:
        float64 [len(record.names)], of a part without names [A], in that order and the contract's units.

    Raises:
        DecodeError: Another representation, frame or length than the contract's, a joint or the gripper missing, or
            a number that is not finite as float32, as which datasets hold it. Whatever else goes wrong is one as well.
    """
    record = record or action.record
    names = record.names or action.names
    place = f"{record.topic} ({action.key})"
    try:
        values: NDArray[np.float64] = _record_type(record_type).decode(action, record, message, place)
        _check_count(values, names, record_type)
        check_finite(values, names, place)
    except DecodeError:
        raise
    except Exception as reason:
        raise unforeseen(place, reason) from reason
    return values


def decode_some_recorded_joints(action: ActionSpec, record: RecordSpec, message: Any) -> NDArray[np.float64]:
    """Return the joints of a record that one JointState carries, NaN for the others; as `decode_action`."""
    names, place = record.names or action.names, f"{record.topic} ({action.key})"
    joints = record.ros_names or names
    try:
        values = partial_joint_values(message, joints, "position", place)
        carried = np.isin(joints, list(message.name))
        check_finite(values[carried], tuple(np.array(names)[carried]), place)
    except DecodeError:
        raise
    except Exception as reason:
        raise unforeseen(place, reason) from reason
    return values


def _check_count(values: Array, names: tuple[str, ...], type_name: str) -> None:
    """As `_check_form`."""
    if values.shape != (len(names),):
        raise TypeError(f"the decoder of {type_name} made {values.shape}, not {(len(names),)}")


def _record_type(type_name: str) -> AsRecord:
    kind = message_types()[type_name].as_record
    if kind is None:
        raise KeyError(f"{type_name} is no record")
    return kind
