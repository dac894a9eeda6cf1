"""Commands and chunks → ROS messages, by the rows of the sinks' types. Imports message packages; for nodes.

A sink carries one command at a time or, where `carries_chunks` says so, whole chunks. The inverse of what the decoders
do with recorded actions: ``decode_action(encode_command(command)) == command.action``.
"""

from typing import Any

from vla_ros.contract import RobotContract, SinkSpec
from vla_ros.contract.types import AsSink, message_types
from vla_ros.data_types import ActionChunk, Command, ContractError
from vla_ros.messages.encoding import time_message
from vla_ros.messages.message_class import message_class

__all__ = [
    "carries_chunks",
    "check_sinks",
    "encode_chunk",
    "encode_command",
    "is_telemetry",
    "message_class",
    "time_message",
]


def encode_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    """Return the message of one command.

    Args:
        sink: Where it goes; its type must not carry whole chunks.
        contract: Says what the action's numbers mean.
        command: Finite numbers, already limited.

    Raises:
        ContractError: The sink's type cannot carry the action; see `check_sinks`.
        ConfigError: The message's package is not installed.
    """
    return _sink_type(sink.type).encode(sink, contract, command)


def encode_chunk(sink: SinkSpec, contract: RobotContract, chunk: ActionChunk) -> Any:
    """Return the message of a whole chunk, for a sink whose type carries chunks.

    Raises:
        ConfigError: The message's package is not installed.
    """
    return _sink_type(sink.type).encode(sink, contract, chunk)


def carries_chunks(type_name: str) -> bool:
    """Whether sinks of a type carry a whole chunk, published once per prediction."""
    return _sink_type(type_name).whole_chunk


def is_telemetry(type_name: str) -> bool:
    """Whether sinks of a type tell what the policy intends and move nothing by themselves: a dry run publishes them."""
    return _sink_type(type_name).is_telemetry


def check_sinks(contract: RobotContract) -> None:
    """Refuse sinks that cannot carry the action, before anything is published.

    Raises:
        ContractError: A PoseStamped without a rotation in the action: any orientation in it would be invented.
        ConfigError: A message package is not installed.
    """
    for index, sink in enumerate(contract.action.sinks):
        message_class(sink.type)
        if _sink_type(sink.type).needs_rotation and not contract.action.has_orientation:
            raise ContractError(
                f"{contract.source or contract.robot_type}: action.sinks[{index}] a {sink.type.rpartition('/')[2]} "
                "commands an orientation, but the action has none; give action.rotation, or use "
                "vla_ros_msgs/msg/EndEffectorAction"
            )


def _sink_type(type_name: str) -> AsSink:
    sink = message_types()[type_name].as_sink
    if sink is None:
        raise KeyError(f"{type_name} is no sink")
    return sink
