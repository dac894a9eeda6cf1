"""Pieces of the messages that encoders make: stamps, headers, vectors, rotations. Imports message packages by name."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract, SinkSpec
from vla_ros.data_types import NANOSECONDS, Command
from vla_ros.data_types.rotations import convert
from vla_ros.messages.message_class import message_class

Floats = NDArray[np.float64]


def time_message(stamp_ns: int) -> Any:
    """Return a builtin_interfaces/Time."""
    return message_class("builtin_interfaces/msg/Time")(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def duration_message(length_ns: int) -> Any:
    """Return a builtin_interfaces/Duration."""
    return message_class("builtin_interfaces/msg/Duration")(
        sec=length_ns // NANOSECONDS, nanosec=length_ns % NANOSECONDS
    )


def header_message(stamp_ns: int, frame: str) -> Any:
    """Return a std_msgs/Header."""
    return message_class("std_msgs/msg/Header")(stamp=time_message(stamp_ns), frame_id=frame)


def vector3_message(values: Floats) -> Any:
    """Return a geometry_msgs/Vector3 of three numbers."""
    x, y, z = values.tolist()
    return message_class("geometry_msgs/msg/Vector3")(x=x, y=y, z=z)


def pose_message(position: Floats, quaternion: Floats) -> Any:
    """Return a geometry_msgs/Pose of a position and a quaternion x, y, z, w."""
    x, y, z = position.tolist()
    qx, qy, qz, qw = quaternion.tolist()
    return message_class("geometry_msgs/msg/Pose")(
        position=message_class("geometry_msgs/msg/Point")(x=x, y=y, z=z),
        orientation=message_class("geometry_msgs/msg/Quaternion")(x=qx, y=qy, z=qz, w=qw),
    )


def rotation_in(contract: RobotContract, action: Floats, form: str) -> Floats | None:
    """Return the action's rotation in another form, or None where it has none."""
    spec = contract.action
    if spec.rotation == "none":
        return None
    values = action[spec.rotation_slice]
    # A rotation vector stays as it is: a velocity may exceed π, which a conversion would wrap. Other forms are
    # converted to themselves too, since a predicted quaternion or rot6d is only roughly a rotation.
    return values if form == spec.rotation == "rotation_vector" else convert(values, spec.rotation, form)


def selected(sink: SinkSpec, contract: RobotContract) -> tuple[list[str], list[int]]:
    """Return the names that the sink carries, in its order, and their indices in the action."""
    names = list(sink.names or contract.action.names)
    return names, [contract.action.names.index(name) for name in names]


def twist_of(sink: SinkSpec, contract: RobotContract, command: Command) -> tuple[Floats, Floats]:
    """Return a command's linear and angular velocity in the sink's units, three numbers each."""
    spec = contract.action
    linear: Floats
    angular: Floats
    if spec.representation == "planar_twist":
        motion = command.action[: len(spec.motion_names)]
        linear, angular = np.zeros(3), np.array([0.0, 0.0, motion[-1]])
        linear[: len(motion) - 1] = motion[:-1]
    else:
        linear = command.action[:3]
        turn = rotation_in(contract, command.action, "rotation_vector")
        angular = np.zeros(3) if turn is None else turn
    if contract.action.representation == "displacement":
        period_s = command.period_ns / NANOSECONDS
        linear, angular = linear / period_s, angular / period_s
    if sink.units == "unitless":
        linear = np.clip(linear / sink.linear_scale, -1.0, 1.0)
        angular = np.clip(angular / sink.angular_scale, -1.0, 1.0)
    return linear, angular
