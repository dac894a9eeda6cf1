"""control_msgs: the actions of grippers, whose goals are sent when the command changes."""

from array import array
from typing import Any

from vla_ros.contract import RobotContract, SinkSpec
from vla_ros.contract.types import AsSink, MessageType
from vla_ros.data_types import Command
from vla_ros.messages import encoding
from vla_ros.messages.message_class import message_class

_STEP = 1e-4
"""Goals count in tenths of a millimetre: the noise of a prediction would otherwise preempt every goal by the next."""


def _position(sink: SinkSpec, contract: RobotContract, command: Command) -> float:
    """Return where the gripper is to be, m or rad: the command between the sink's open and closed."""
    _, (index,) = encoding.selected(sink, contract)
    value, gripper = float(command.action[index]), contract.action.gripper
    if gripper is not None and gripper.name == contract.action.names[index] and sink.open is not None:
        closed = sink.closed or 0.0
        share = (value - gripper.closed) / (gripper.open - gripper.closed)
        value = closed + min(max(share, 0.0), 1.0) * (sink.open - closed)
    return round(value / _STEP) * _STEP


def _gripper_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    order = message_class("control_msgs/msg/GripperCommand")(
        position=_position(sink, contract, command), max_effort=sink.max_effort
    )
    return message_class(sink.type).Goal(command=order)


def _parallel_gripper_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    names, _ = encoding.selected(sink, contract)
    state = message_class("sensor_msgs/msg/JointState")(
        name=list(sink.ros_names or names),
        position=array("d", [_position(sink, contract, command)]),
        effort=array("d", [sink.max_effort] if sink.max_effort else []),
    )
    return message_class(sink.type).Goal(command=state)


ROWS = (
    MessageType(
        "control_msgs/action/GripperCommand",
        "A goal for a gripper's action server, whenever the command changes: position, m or rad, and effort.",
        as_sink=AsSink(("joint_position",), _gripper_command, carries="one"),
    ),
    MessageType(
        "control_msgs/action/ParallelGripperCommand",
        "The same of parallel_gripper_controller, by the joint's name.",
        as_sink=AsSink(("joint_position",), _parallel_gripper_command, carries="one"),
    ),
)
