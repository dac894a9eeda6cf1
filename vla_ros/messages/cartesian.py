"""Recorded motions of an end effector → numbers of the action: translation, rotation in the contract's form."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ActionSpec
from vla_ros.data_types import DecodeError
from vla_ros.data_types.rotations import convert
from vla_ros.messages.forms.paths import yaw_of
from vla_ros.messages.forms.vectors import check_quaternion

REPRESENTATIONS = {"displacement": 0, "twist": 1, "pose": 2}
"""Action representation → the constant of vla_ros_msgs/EndEffectorAction."""


def motion_of_twist(action: ActionSpec, twist: Any, place: str) -> NDArray[np.float64]:
    """Return the numbers of a geometry_msgs/Twist, or of anything with `linear` and `angular`."""
    linear, turn = twist.linear, twist.angular
    if action.representation == "planar_twist":  # what else a twist has, a base on wheels does not do
        sideways = [linear.y] if len(action.motion_names) > 2 else []
        return np.array([linear.x, *sideways, turn.z], dtype=np.float64)
    rotation = _rotation([turn.x, turn.y, turn.z], "rotation_vector", action, place)
    return np.array([linear.x, linear.y, linear.z, *rotation], dtype=np.float64)


def motion_of_pose(action: ActionSpec, pose: Any, place: str) -> NDArray[np.float64]:
    """Return the numbers of a geometry_msgs/Pose.

    Raises:
        DecodeError: Its quaternion is no rotation.
    """
    position, turn = pose.position, pose.orientation
    if action.representation == "trajectory":
        return np.array([position.x, position.y, yaw_of(turn, f"{place}: pose")], dtype=np.float64)
    rotation = _rotation([turn.x, turn.y, turn.z, turn.w], "quaternion", action, place)
    return np.array([position.x, position.y, position.z, *rotation], dtype=np.float64)


def check_rotation(values: NDArray[np.float64], action: ActionSpec, place: str) -> None:
    """Refuse numbers of an array that stand for no rotation; they are the action's rotation as they are.

    Raises:
        DecodeError: They do.
    """
    if action.representation != "pose" or action.rotation in ("none", "rotation_vector"):
        return
    rotation = values.tolist()
    if action.rotation == "quaternion":
        check_quaternion(rotation, "its rotation", place)
    _converted(rotation, action.rotation, "quaternion", place)


def _rotation(values: list[float], form: str, action: ActionSpec, place: str) -> NDArray[np.float64]:
    if action.rotation == "none":
        return np.empty(0)
    if form == action.rotation == "rotation_vector":
        return np.array(values)  # as it is: a velocity may exceed π, which a conversion would wrap
    if form == "quaternion":
        check_quaternion(values, "pose.orientation", place)
    return _converted(values, form, action.rotation, place)


def _converted(values: list[float], source: str, target: str, place: str) -> NDArray[np.float64]:
    try:
        with np.errstate(all="ignore"):  # a number that is not finite is found afterwards, by its name
            return convert(values, source, target)
    except ValueError as reason:
        raise DecodeError(f"{place}: {reason}") from reason
