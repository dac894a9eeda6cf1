"""Message types: a light meter as an input, a position on the plane as a command."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract, SinkSpec
from vla_ros.contract.types import AsInput, AsSink, MessageType
from vla_ros.data_types import Command
from vla_ros.messages import samples
from vla_ros.messages.message_class import message_class


def _decode(_: InputSpec, message: Any, __: str) -> NDArray[np.float32]:
    return np.array([message.illuminance], np.float32)


def _sample(spec: InputSpec, stamp_ns: int, rng: Any) -> Any:
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), rng.uniform(0.0, 100.0), 0.0)


def _encode(sink: SinkSpec, _: RobotContract, command: Command) -> Any:
    x, y = command.action.tolist()
    return message_class(sink.type)(x=x, y=y)


LIGHT = MessageType(
    "sensor_msgs/msg/Illuminance",
    "Light, lx.",
    as_input=AsInput("fields", _decode, _sample, ("illuminance",), ("illuminance",)),
)
PLANE = MessageType(
    "geometry_msgs/msg/Pose2D",
    "A position on the plane, m.",
    has_header=False,
    as_sink=AsSink(("joint_position",), _encode, carries="all"),
)
