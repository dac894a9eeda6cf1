"""std_msgs: arrays of numbers and text. No header: their time is when they were received."""

from array import array
from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, InputSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import CARTESIAN, AsInput, AsRecord, AsSink, MessageType
from vla_ros.data_types import Array, Command, DecodeError
from vla_ros.messages import encoding, samples
from vla_ros.messages.cartesian import check_rotation
from vla_ros.messages.forms.vectors import array_values, as_finite_float32
from vla_ros.messages.message_class import message_class
from vla_ros.messages.samples import Rng

MAX_TEXT = 4096
"""Characters of an instruction; language models read a few hundred."""


def _array(spec: InputSpec, message: Any, place: str) -> Array:
    return as_finite_float32(array_values(message, spec.names, place), spec.names, place)


def _array_sample(spec: InputSpec, _: int, rng: Rng) -> Any:
    return samples.multi_array(spec.type, rng.normal(size=len(spec.names)))


def _recorded_array(action: ActionSpec, record: RecordSpec, message: Any, place: str) -> Array:
    values = array_values(message, record.names or action.names, place)
    if not record.names:
        check_rotation(values, action, place)
    return values


def _recorded_array_sample(action: ActionSpec, record: RecordSpec, _: int, __: int, rng: Rng) -> Any:
    return samples.multi_array(record.type, rng.normal(size=len(record.names or action.names)))


def _array_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    _, indices = encoding.selected(sink, contract)
    return message_class(sink.type)(data=array("d", command.action[indices].tolist()))


def _text(_: InputSpec, message: Any, place: str) -> Array:
    if len(message.data) > MAX_TEXT:
        raise DecodeError(f"{place}: an instruction has at most {MAX_TEXT} characters, got {len(message.data)}")
    return np.array(str(message.data))


def _text_sample(spec: InputSpec, _: int, rng: Rng) -> Any:
    return samples.new(spec.type, f"move object {rng.integers(100)} to the left")


_ANY = (*CARTESIAN, "joint_position")

ROWS = (
    MessageType(
        "std_msgs/msg/Float32MultiArray",
        "Numbers, named in the contract in the order of the array.",
        has_header=False,
        as_input=AsInput("array", _array, _array_sample),
    ),
    MessageType(
        "std_msgs/msg/Float64MultiArray",
        "The same in double precision; as a command, of ros2_control's forward controllers.",
        has_header=False,
        as_input=AsInput("array", _array, _array_sample),
        as_record=AsRecord(_ANY, _recorded_array, _recorded_array_sample, carries="any"),
        as_sink=AsSink(_ANY, _array_command, carries="any"),
    ),
    MessageType(
        "std_msgs/msg/String",
        f"The instruction, at most {MAX_TEXT} characters.",
        has_header=False,
        as_input=AsInput("text", _text, _text_sample),
    ),
)
