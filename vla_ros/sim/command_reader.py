"""Messages of a contract's sinks → what a simulated robot is told, by the decoders that recorded actions have.

The inverse of the policy node's encoders. Works on any object with the message's fields; no ROS here.
"""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import AlignmentSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import has_header, message_types
from vla_ros.data_types import NANOSECONDS, ConfigError, DecodeError
from vla_ros.messages.decoders import decode_action
from vla_ros.sim.commands import CommandRefusedError, SimCommand
from vla_ros.sim.parts import ReadsCommands
from vla_ros.sim.robot import Robot

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
"""Carries waypoints; each is reached at its time, so it is commanded one period before."""


class CommandReader:
    """Reads the messages of one sink.

    Args:
        contract: Says what the action's numbers mean.
        sink: One that `command_sink` has chosen.
    """

    def __init__(self, contract: RobotContract, sink: SinkSpec) -> None:
        self.sink, self._contract = sink, contract.commanded
        self._period_ns = NANOSECONDS // contract.fps
        self._record = RecordSpec(
            sink.topic, sink.type, sink.qos, AlignmentSpec(), 1.0, names=sink.names, ros_names=sink.ros_names
        )

    def read(self, message: Any, robot: Robot, now_ns: int) -> list[SimCommand]:
        """Return a message's command, or those of all its waypoints, in their order.

        Args:
            message: Of the sink's type.
            robot: Which is to obey.
            now_ns: Simulated time; what a message without a stamp takes effect at.

        Raises:
            CommandRefusedError: The message is malformed, or the robot cannot obey it.
        """
        if isinstance(robot, ReadsCommands) and self.sink.type in robot.command_types:
            return [robot.read_command(self.sink, message, now_ns)]
        try:
            if self.sink.type == TRAJECTORY:
                return self._waypoints(message)
            return [self._command(message, now_ns)]
        except DecodeError as error:
            raise CommandRefusedError("malformed", str(error)) from error

    def _command(self, message: Any, now_ns: int) -> SimCommand:
        stamp_ns = nanoseconds(message.header.stamp) if has_header(self.sink.type) else now_ns
        observed = getattr(message, "observation_stamp", None)
        period = getattr(message, "period", None)
        return SimCommand(
            stamp_ns,
            self._action(message),
            self._period_ns if period is None else nanoseconds(period),
            None if observed is None else nanoseconds(observed),
        )

    def _waypoints(self, message: Any) -> list[SimCommand]:
        if not message.points:
            raise DecodeError(f"{self.sink.topic}: a trajectory without waypoints")
        start_ns = nanoseconds(message.header.stamp)
        commands = []
        for point in message.points:
            one = SimpleNamespace(header=message.header, joint_names=message.joint_names, points=[point])
            at_ns = start_ns + nanoseconds(point.time_from_start) - self._period_ns
            commands.append(SimCommand(at_ns, self._action(one), self._period_ns))
        return commands

    def _action(self, message: Any) -> NDArray[np.float64]:
        spec = self._contract.action
        values = decode_action(spec, self.sink.type, message, self._record)
        if self.sink.names or len(values) == len(spec.names):
            names = self.sink.names or spec.names
        else:
            names = spec.motion_names
        action = np.full(len(spec.names), np.nan)
        action[[spec.names.index(name) for name in names]] = values
        return action


def command_sink(contract: RobotContract, robot: Robot, interface: str = "") -> SinkSpec:
    """Return the sink that moves the robot.

    Args:
        contract: Names the sinks.
        robot: Which is to obey.
        interface: A sink's topic or type, as ``TwistStamped`` or ``twist``; empty for the first that moves the robot.

    Raises:
        ConfigError: There is none, or no message of its type can be read.
    """
    sinks = contract.action.sinks
    told = ", ".join(f"{sink.topic} ({sink.type})" for sink in sinks)
    fits = [sink for sink in sinks if not interface or interface in _names_of(sink)]
    readable = [sink for sink in fits if _is_read(contract, robot, sink)]
    if readable:
        return readable[0]
    if interface and not fits:
        raise ConfigError(
            f"{contract.source}: command_interface '{interface}' is the topic or type of no sink; action.sinks "
            f"are {told}"
        )
    raise ConfigError(
        f"{contract.source}: the simulated robot can be moved by none of {interface or 'the sinks'}; action.sinks are "
        f"{told}. Add one whose type docs/message_types.md lists as recorded and as sent for this representation."
    )


def _names_of(sink: SinkSpec) -> set[str]:
    short = sink.type.rpartition("/")[2]
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", short).lower()
    return {sink.topic, sink.type, short, snake, snake.removesuffix("_stamped")}


def _is_read(contract: RobotContract, robot: Robot, sink: SinkSpec) -> bool:
    if isinstance(robot, ReadsCommands) and sink.type in robot.command_types:
        return True
    row = message_types()[sink.type]
    representation = contract.commanded.action.representation
    can = row.as_record is not None and representation in row.as_record.representations
    return can and sink.units == "si"


def nanoseconds(message: Any) -> int:
    """Return a Time or Duration in ns."""
    return int(message.sec) * NANOSECONDS + int(message.nanosec)
