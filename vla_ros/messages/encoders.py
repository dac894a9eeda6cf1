"""Commands and chunks → ROS messages, one encoder per sink type. Imports message packages; for nodes.

A sink carries one command at a time, or, if its type is one of `CHUNK_SINKS`, whole chunks. The inverse of what the
decoders do with recorded actions: ``decode_action(encode_command(command)) == command.action``.
"""

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract, SinkSpec
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command, ContractError
from vla_ros.data_types.rotations import convert
from vla_ros.messages.decoders import REPRESENTATIONS
from vla_ros.messages.rclpy_deserialize import message_class

__all__ = [
    "CHUNK_SINKS",
    "TELEMETRY_SINKS",
    "check_sinks",
    "encode_chunk",
    "encode_command",
    "message_class",
    "time_message",
]

Floats = NDArray[np.float64]


def encode_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    """Return the message of one command.

    Args:
        sink: Where it goes; its type must not be one of `CHUNK_SINKS`.
        contract: Says what the action's numbers mean.
        command: Finite numbers, already limited.

    Raises:
        ContractError: The sink's type cannot carry the action; see `check_sinks`.
        ConfigError: The message's package is not installed.
    """
    return _COMMANDS[sink.type](sink, contract, command)


def encode_chunk(sink: SinkSpec, contract: RobotContract, chunk: ActionChunk) -> Any:
    """Return the message of a whole chunk, for a sink whose type is one of `CHUNK_SINKS`.

    Raises:
        ConfigError: The message's package is not installed.
    """
    return _CHUNKS[sink.type](sink, contract, chunk)


def check_sinks(contract: RobotContract) -> None:
    """Refuse sinks that cannot carry the action, before anything is published.

    Raises:
        ContractError: A PoseStamped without a rotation in the action: any orientation in it would be invented.
        ConfigError: A message package is not installed.
    """
    for index, sink in enumerate(contract.action.sinks):
        message_class(sink.type)
        if sink.type == "geometry_msgs/msg/PoseStamped" and contract.action.rotation == "none":
            raise ContractError(
                f"{contract.source or contract.robot_type}: action.sinks[{index}] a PoseStamped commands an "
                "orientation, but the action has none; give action.rotation, or use vla_ros_msgs/msg/EndEffectorAction"
            )


def time_message(stamp_ns: int) -> Any:
    """Return a builtin_interfaces/Time."""
    return message_class("builtin_interfaces/msg/Time")(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def _duration(length_ns: int) -> Any:
    return message_class("builtin_interfaces/msg/Duration")(
        sec=length_ns // NANOSECONDS, nanosec=length_ns % NANOSECONDS
    )


def _header(stamp_ns: int, frame: str) -> Any:
    return message_class("std_msgs/msg/Header")(stamp=time_message(stamp_ns), frame_id=frame)


def _vector3(values: Floats) -> Any:
    x, y, z = values.tolist()
    return message_class("geometry_msgs/msg/Vector3")(x=x, y=y, z=z)


def _rotation(contract: RobotContract, action: Floats, form: str) -> Floats | None:
    """Return the action's rotation in another form, or None where it has none."""
    spec = contract.action
    if spec.rotation == "none":
        return None
    values = action[spec.rotation_slice]
    # A rotation vector stays as it is: a velocity may exceed π, which a conversion would wrap. Other forms are
    # converted to themselves too, since a predicted quaternion or rot6d is only roughly a rotation.
    return values if form == spec.rotation == "rotation_vector" else convert(values, spec.rotation, form)


def _selected(sink: SinkSpec, contract: RobotContract) -> tuple[list[str], list[int]]:
    """Return the names that the sink carries, in its order, and their indices in the action."""
    names = list(sink.names or contract.action.names)
    return names, [contract.action.names.index(name) for name in names]


def _end_effector_action(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    spec, action = contract.action, command.action
    rotation = _rotation(contract, action, "rotation_vector")
    if rotation is None:
        # No rotation of a motion is zero; an orientation that nobody decided on is "leave as it is", NaN
        rotation = np.full(3, np.nan if spec.representation == "pose" else 0.0)
    gripper = spec.gripper_index
    return message_class(sink.type)(
        header=_header(command.effect_ns, spec.frame),
        representation=REPRESENTATIONS[spec.representation],
        linear=_vector3(action[:3]),
        angular=_vector3(rotation),
        gripper=float("nan") if gripper is None else float(action[gripper]),
        period=_duration(command.period_ns),
        observation_stamp=time_message(command.observation_stamp_ns),
        chunk_id=command.chunk_id,
        chunk_index=command.chunk_index,
    )


def _twist_stamped(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    linear = command.action[:3]
    angular = _rotation(contract, command.action, "rotation_vector")
    angular = np.zeros(3) if angular is None else angular
    if contract.action.representation == "displacement":
        period_s = command.period_ns / NANOSECONDS
        linear, angular = linear / period_s, angular / period_s
    if sink.units == "unitless":
        linear = np.clip(linear / sink.linear_scale, -1.0, 1.0)
        angular = np.clip(angular / sink.angular_scale, -1.0, 1.0)
    twist = message_class("geometry_msgs/msg/Twist")(linear=_vector3(linear), angular=_vector3(angular))
    return message_class(sink.type)(header=_header(command.effect_ns, contract.action.frame), twist=twist)


def _pose_stamped(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    quaternion = _rotation(contract, command.action, "quaternion")
    if quaternion is None:
        check_sinks(contract)
        raise ContractError(f"{sink.topic}: a PoseStamped commands an orientation, but the action has none")
    x, y, z = command.action[:3].tolist()
    qx, qy, qz, qw = quaternion.tolist()
    pose = message_class("geometry_msgs/msg/Pose")(
        position=message_class("geometry_msgs/msg/Point")(x=x, y=y, z=z),
        orientation=message_class("geometry_msgs/msg/Quaternion")(x=qx, y=qy, z=qz, w=qw),
    )
    return message_class(sink.type)(header=_header(command.effect_ns, contract.action.frame), pose=pose)


def _multi_array(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    _, indices = _selected(sink, contract)
    return message_class(sink.type)(data=array("d", command.action[indices].tolist()))


def _action_chunk(sink: SinkSpec, contract: RobotContract, chunk: ActionChunk) -> Any:
    horizon, action_dim = chunk.actions_HA.shape
    return message_class(sink.type)(
        header=_header(chunk.observation_stamp_ns, contract.action.frame),
        chunk_id=chunk.chunk_id,
        period=_duration(chunk.period_ns),
        horizon=horizon,
        action_dim=action_dim,
        names=list(contract.action.names),
        actions=array("d", chunk.actions_HA.ravel().tolist()),  # assigning a numpy array checks every element
        inference_time=_duration(chunk.inference_ns),
    )


def _joint_trajectory(sink: SinkSpec, contract: RobotContract, chunk: ActionChunk) -> Any:
    """Step k is commanded at the observation's stamp plus k periods and reached one period later: its waypoint."""
    names, indices = _selected(sink, contract)
    point = message_class("trajectory_msgs/msg/JointTrajectoryPoint")
    return message_class(sink.type)(
        header=_header(chunk.observation_stamp_ns, ""),  # joint positions have no frame
        joint_names=names,
        points=[
            point(positions=array("d", row[indices].tolist()), time_from_start=_duration((k + 1) * chunk.period_ns))
            for k, row in enumerate(chunk.actions_HA)
        ],
    )


_COMMANDS: dict[str, Callable[[SinkSpec, RobotContract, Command], Any]] = {
    "vla_ros_msgs/msg/EndEffectorAction": _end_effector_action,
    "geometry_msgs/msg/TwistStamped": _twist_stamped,
    "geometry_msgs/msg/PoseStamped": _pose_stamped,
    "std_msgs/msg/Float64MultiArray": _multi_array,
}

_CHUNKS: dict[str, Callable[[SinkSpec, RobotContract, ActionChunk], Any]] = {
    "vla_ros_msgs/msg/ActionChunk": _action_chunk,
    "trajectory_msgs/msg/JointTrajectory": _joint_trajectory,
}

CHUNK_SINKS = frozenset(_CHUNKS)
"""Sink types that carry a whole chunk, published once per prediction."""

TELEMETRY_SINKS = ("vla_ros_msgs/msg/ActionChunk",)
"""Sinks that tell what the policy intends and move nothing by themselves; a dry run publishes them too."""
