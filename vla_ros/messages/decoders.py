"""Message fields → arrays, one decoder per type. Duck-typed: rclpy's and rosbags' messages both work. No ROS import.

A decoder reads what the contract says and refuses the rest: a missing joint, another frame or a number that is not
finite is a `DecodeError` with its place, never a guess. Nothing else leaves `decode_input` and `decode_action`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import INSTRUCTION, ActionSpec, InputSpec
from vla_ros.contract.types import INPUT_TYPES
from vla_ros.data_types import Array, DecodeError
from vla_ros.data_types.foreign_text import plain
from vla_ros.data_types.rotations import convert
from vla_ros.messages.decode_failures import unforeseen
from vla_ros.messages.forms.images import decode_compressed_image, decode_image
from vla_ros.messages.forms.points import decode_laser_scan, decode_point_cloud
from vla_ros.messages.forms.vectors import (
    array_values,
    as_finite_float32,
    check_finite,
    check_quaternion,
    field_values,
    joint_values,
)

__all__ = [
    "DECODERS",
    "REPRESENTATIONS",
    "array_values",
    "check_finite",
    "check_frame",
    "decode_action",
    "decode_input",
    "joint_values",
]

Decoder = Callable[[InputSpec, Any, str], Array]


MAX_TEXT = 4096
"""Characters of an instruction; language models read a few hundred."""


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
    place = f"{spec.topic} ({spec.key})"
    try:
        if spec.frame is not None and INPUT_TYPES[spec.type].has_header:
            check_frame(message.header.frame_id, spec.frame, place)
        value = DECODERS[spec.type](spec, message, place)
        _check_form(spec, value)
    except DecodeError:
        raise
    except Exception as reason:
        raise unforeseen(place, reason) from reason
    return value


def _check_form(spec: InputSpec, value: Array) -> None:
    """Hold a decoder to the contract: a value of another form would fail later, where there is no message to blame."""
    if spec.key == INSTRUCTION:
        return
    shape = spec.shape[1:] if spec.window is not None else spec.shape
    dtype = np.uint8 if spec.image is not None else np.float32
    if value.shape != shape or value.dtype != dtype:
        raise TypeError(f"the decoder of {spec.type} made {value.dtype} {value.shape}, not {np.dtype(dtype)} {shape}")


def check_frame(got: str, expected: str, place: str) -> None:
    """Refuse a message whose frame_id is not the contract's.

    Raises:
        DecodeError: They differ.
    """
    if got != expected:
        raise DecodeError(
            f"{place}: frame_id is '{plain(got)}', the contract says '{expected}'; correct the one that is wrong"
        )


Form = TypeVar("Form")


def _given(form: Form | None, spec: InputSpec) -> Form:
    if form is None:
        raise ValueError(f"{spec.key}: a {spec.type} needs its form; contracts from `parse_contract` have it")
    return form


def _image(spec: InputSpec, message: Any, place: str) -> Array:
    return decode_image(_given(spec.image, spec), message, place)


def _compressed_image(spec: InputSpec, message: Any, place: str) -> Array:
    return decode_compressed_image(_given(spec.image, spec), message, place)


def _point_cloud(spec: InputSpec, message: Any, place: str) -> Array:
    return decode_point_cloud(_given(spec.points, spec), message, place)


def _laser_scan(spec: InputSpec, message: Any, place: str) -> Array:
    return decode_laser_scan(_given(spec.points, spec), message, place)


def _joints(spec: InputSpec, message: Any, place: str) -> Array:
    return as_finite_float32(joint_values(message, spec.names, spec.fields[0], place), spec.names, place)


def _array(spec: InputSpec, message: Any, place: str) -> Array:
    return as_finite_float32(array_values(message, spec.names, place), spec.names, place)


def _fields(spec: InputSpec, message: Any, place: str) -> Array:
    return as_finite_float32(field_values(message, spec.fields, place), spec.names, place)


def _imu(spec: InputSpec, message: Any, place: str) -> Array:
    for name in {field.partition(".")[0] for field in spec.fields}:
        # sensor_msgs/Imu: a first covariance of -1 says that the sensor has no such measurement
        if getattr(message, f"{name}_covariance")[0] == -1:
            raise DecodeError(
                f"{place}: the IMU says that it measures no {name} (covariance -1); leave it out of fields"
            )
    return _fields(spec, message, place)


def _text(_: InputSpec, message: Any, place: str) -> Array:
    if len(message.data) > MAX_TEXT:
        raise DecodeError(f"{place}: an instruction has at most {MAX_TEXT} characters, got {len(message.data)}")
    return np.array(str(message.data))


DECODERS: dict[str, Decoder] = {
    "sensor_msgs/msg/Image": _image,
    "sensor_msgs/msg/CompressedImage": _compressed_image,
    "sensor_msgs/msg/JointState": _joints,
    "sensor_msgs/msg/Imu": _imu,
    "sensor_msgs/msg/PointCloud2": _point_cloud,
    "sensor_msgs/msg/LaserScan": _laser_scan,
    "sensor_msgs/msg/Range": _fields,
    "geometry_msgs/msg/PoseStamped": _fields,
    "geometry_msgs/msg/TwistStamped": _fields,
    "geometry_msgs/msg/WrenchStamped": _fields,
    "nav_msgs/msg/Odometry": _fields,
    "std_msgs/msg/Float32MultiArray": _array,
    "std_msgs/msg/Float64MultiArray": _array,
    "std_msgs/msg/String": _text,
}
"""ROS type of an input → its decoder."""


REPRESENTATIONS = {"displacement": 0, "twist": 1, "pose": 2}
"""Action representation → the constant of vla_ros_msgs/EndEffectorAction."""


def decode_action(action: ActionSpec, record_type: str, message: Any) -> NDArray[np.float64]:
    """Return the action that a recorded message holds.

    Args:
        action: The contract's action.
        record_type: ROS type of the message, one of `vla_ros.contract.types.ACTION_SOURCES`.
        message: Any object with that type's fields.

    Returns:
        float64 [A], in the contract's order and units.

    Raises:
        DecodeError: Another representation, frame or length than the contract's, a joint or the gripper missing, or
            a number that is not finite as float32, as which datasets hold it. Whatever else goes wrong is one as well.
    """
    place = f"{action.record.topic} ({action.key})"
    try:
        if record_type == "sensor_msgs/msg/JointState":
            values = joint_values(message, action.names, "position", place)
        elif record_type == "std_msgs/msg/Float64MultiArray":
            values = array_values(message, action.names, place)
            _check_rotation(values, action, place)
        else:
            check_frame(message.header.frame_id, action.frame, place)
            values = _cartesian_action(action, record_type, message, place)
        check_finite(values, action.names, place)
    except DecodeError:
        raise
    except Exception as reason:
        raise unforeseen(place, reason) from reason
    return values


def _cartesian_action(action: ActionSpec, record_type: str, message: Any, place: str) -> NDArray[np.float64]:
    """Join translation, rotation in the contract's form, and gripper."""
    gripper: list[float] = []
    if record_type == "vla_ros_msgs/msg/EndEffectorAction":
        if message.representation != REPRESENTATIONS[action.representation]:
            named = {code: name for name, code in REPRESENTATIONS.items()}
            got = named.get(int(message.representation), f"unknown ({message.representation})")
            raise DecodeError(f"{place}: the action is a {got}, the contract says {action.representation}")
        linear, turn, form = message.linear, message.angular, "rotation_vector"
        gripper = [message.gripper]
    elif record_type == "geometry_msgs/msg/TwistStamped":
        linear, turn, form = message.twist.linear, message.twist.angular, "rotation_vector"
    else:
        linear, turn, form = message.pose.position, message.pose.orientation, "quaternion"
    if action.gripper is not None and not gripper:
        raise DecodeError(f"{place}: {record_type} carries no gripper, but the action has '{action.gripper.name}'")
    axes = "xyz" if form == "rotation_vector" else "xyzw"
    rotation = _rotation([getattr(turn, axis) for axis in axes], form, action, place)
    return np.array([linear.x, linear.y, linear.z, *rotation, *(gripper if action.gripper else [])], dtype=np.float64)


def _rotation(values: list[float], form: str, action: ActionSpec, place: str) -> NDArray[np.float64]:
    if action.rotation == "none":
        return np.empty(0)
    if form == action.rotation == "rotation_vector":
        return np.array(values)  # as it is: a velocity may exceed π, which a conversion would wrap
    if form == "quaternion":
        check_quaternion(values, "pose.orientation", place)
    return _converted(values, form, action.rotation, place)


def _check_rotation(values: NDArray[np.float64], action: ActionSpec, place: str) -> None:
    """Refuse numbers of an array that stand for no rotation; they are the action as they are."""
    if action.representation != "pose" or action.rotation in ("none", "rotation_vector"):
        return
    rotation = values[action.rotation_slice].tolist()
    if action.rotation == "quaternion":
        check_quaternion(rotation, "its rotation", place)
    _converted(rotation, action.rotation, "quaternion", place)


def _converted(values: list[float], source: str, target: str, place: str) -> NDArray[np.float64]:
    try:
        with np.errstate(all="ignore"):  # a number that is not finite is found afterwards, by its name
            return convert(values, source, target)
    except ValueError as reason:
        raise DecodeError(f"{place}: {reason}") from reason
