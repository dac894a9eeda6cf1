"""Turns the command messages of a contract's sinks into what the simulated arm understands.

Owns the subscription of the chosen command interface. Callbacks read, convert and store; the rules of what is
accepted and when it is obeyed are `vla_ros.sim.commands`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from numpy.typing import NDArray
from rclpy.node import Node

from vla_ros.contract import RobotContract, SinkSpec
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.messages.qos import to_profile
from vla_ros.sim.commands import CommandBuffer, MotionCommand
from vla_ros.sim.metaworld_robot import GRIPPER_CLOSED, GRIPPER_OPEN
from vla_ros_msgs.msg import EndEffectorAction

INTERFACES: dict[str, tuple[str, Any]] = {
    "end_effector_action": ("vla_ros_msgs/msg/EndEffectorAction", EndEffectorAction),
    "twist": ("geometry_msgs/msg/TwistStamped", TwistStamped),
    "pose": ("geometry_msgs/msg/PoseStamped", PoseStamped),
}
"""Value of the parameter `command_interface` → type of the sink that it listens to."""

_KINDS = {
    EndEffectorAction.DISPLACEMENT: "displacement",
    EndEffectorAction.TWIST: "twist",
    EndEffectorAction.POSE: "pose",
}


class CommandSubscriber:
    """Listens to one sink of a contract.

    Args:
        node: Node to subscribe from.
        contract: Names the sinks, the frame and the gripper's ends.
        interface: Key of `INTERFACES`.
        buffer: Takes the commands.
        now_ns: Simulated time.

    Raises:
        ConfigError: The contract publishes no such command.
    """

    def __init__(
        self, node: Node, contract: RobotContract, interface: str, buffer: CommandBuffer, now_ns: Callable[[], int]
    ) -> None:
        self._node, self._contract, self._buffer, self._now_ns = node, contract, buffer, now_ns
        self._sink = _find_sink(contract, interface)
        self._convert = {"end_effector_action": self._from_action, "twist": self._from_twist, "pose": self._from_pose}[
            interface
        ]
        node.create_subscription(INTERFACES[interface][1], self._sink.topic, self._receive, to_profile(self._sink.qos))

    def _receive(self, message: Any) -> None:
        command = self._convert(message)
        refusal = (
            f"representation {message.representation} is none of {sorted(_KINDS)}"
            if command is None
            else self._buffer.offer(command, self._now_ns())
        )
        if refusal is not None:
            self._node.get_logger().warning(
                f"Refused a command on {self._sink.topic}: {refusal}. Refused so far: {dict(self._buffer.refused)}",
                throttle_duration_sec=2.0,
            )

    def _from_action(self, message: EndEffectorAction) -> MotionCommand | None:
        kind: Any = _KINDS.get(message.representation)
        if kind is None:
            self._buffer.refused["representation"] += 1
            return None
        return MotionCommand(
            kind=kind,
            frame=message.header.frame_id,
            stamp_ns=_nanoseconds(message.header.stamp),
            linear=_array(message.linear),
            angular=_array(message.angular),
            gripper=self._gripper(message.gripper),
            period_ns=_nanoseconds(message.period),
            observation_stamp_ns=_nanoseconds(message.observation_stamp),
        )

    def _gripper(self, value: float) -> float | None:
        """Contract's gripper number → −1 (open) … 1 (closed); None leaves it as it is."""
        spec = self._contract.action.gripper
        if spec is None or not math.isfinite(value):
            return None
        closed_share = (value - spec.open) / (spec.closed - spec.open)
        return GRIPPER_OPEN + closed_share * (GRIPPER_CLOSED - GRIPPER_OPEN)

    def _from_twist(self, message: TwistStamped) -> MotionCommand:
        unitless = self._sink.units == "unitless"
        return MotionCommand(
            kind="twist",
            frame=message.header.frame_id,
            stamp_ns=_nanoseconds(message.header.stamp),
            linear=_array(message.twist.linear) * (self._sink.linear_scale if unitless else 1.0),
            angular=_array(message.twist.angular),
            gripper=None,
            period_ns=0,
        )

    def _from_pose(self, message: PoseStamped) -> MotionCommand:
        return MotionCommand(
            kind="pose",
            frame=message.header.frame_id,
            stamp_ns=_nanoseconds(message.header.stamp),
            linear=_array(message.pose.position),
            angular=np.zeros(3),  # the hand's orientation is fixed; a pose always carries one and is not refused for it
            gripper=None,
            period_ns=NANOSECONDS // self._contract.fps,
        )


def _find_sink(contract: RobotContract, interface: str) -> SinkSpec:
    if interface not in INTERFACES:
        raise ConfigError(f"command_interface '{interface}' is not one of {', '.join(INTERFACES)}")
    type_name = INTERFACES[interface][0]
    for sink in contract.action.sinks:
        if sink.type == type_name:
            return sink
    sinks = ", ".join(f"{sink.topic} ({sink.type})" for sink in contract.action.sinks)
    raise ConfigError(
        f"{contract.source}: command_interface '{interface}' needs a sink of type {type_name}; action.sinks are {sinks}"
    )


def _nanoseconds(message: Any) -> int:
    return int(message.sec) * NANOSECONDS + int(message.nanosec)


def _array(message: Any) -> NDArray[np.float64]:
    return np.array((message.x, message.y, message.z), np.float64)
