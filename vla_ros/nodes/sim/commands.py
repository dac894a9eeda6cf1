"""Listens to the sink that moves a simulated robot. Callbacks read, convert and store by the rules of `vla_ros.sim`."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from vla_ros.contract import RobotContract
from vla_ros.messages.message_class import message_class
from vla_ros.messages.qos import to_profile
from vla_ros.sim.command_reader import CommandReader, command_sink
from vla_ros.sim.commands import CommandBuffer, CommandRefusedError
from vla_ros.sim.robot import Robot


class CommandSubscriber:
    """Listens to one sink of a contract.

    Args:
        node: Node to subscribe from.
        contract: Names the sinks.
        interface: As of `vla_ros.sim.command_reader.command_sink`.
        buffer: Takes the commands.
        get_robot: The robot that is to obey; another task is another robot.
        now_ns: Simulated time.

    Raises:
        ConfigError: No sink of the contract moves the robot.
    """

    def __init__(
        self,
        node: Node,
        contract: RobotContract,
        interface: str,
        buffer: CommandBuffer,
        *,
        get_robot: Callable[[], Robot],
        now_ns: Callable[[], int],
    ) -> None:
        self._node, self._buffer, self._robot, self._now_ns = node, buffer, get_robot, now_ns
        self._sink = command_sink(contract, get_robot(), interface)
        self._reader = CommandReader(contract, self._sink)
        qos = to_profile(self._sink.qos)
        node.create_subscription(message_class(self._sink.type), self._sink.topic, self._receive, qos)

    def _receive(self, message: Any) -> None:
        now_ns = self._now_ns()
        try:
            refusal = self._buffer.offer_plan(self._reader.read(message, self._robot(), now_ns), now_ns)
        except CommandRefusedError as error:
            self._buffer.refuse(error)
            refusal = str(error)
        if refusal is not None:
            self._node.get_logger().warning(
                f"Refused a command on {self._sink.topic}: {refusal}. Refused so far: {dict(self._buffer.refused)}",
                throttle_duration_sec=2.0,
            )
