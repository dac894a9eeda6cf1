"""std_msgs: arrays of numbers and text. No header: their time is when they were received."""

from array import array
from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, InputSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import ANY_REPRESENTATION, COMMANDED, AsInput, AsRecord, AsSink, MessageType
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
    names = record.names or action.names
    rotation = action.names[action.rotation_slice] if action.rotation != "none" else ()
    if rotation and rotation[0] in names:
        start = names.index(rotation[0])
        check_rotation(values[start : start + len(rotation)], action, place)
    return values


def _recorded_array_sample(action: ActionSpec, record: RecordSpec, _: int, __: int, rng: Rng) -> Any:
    return samples.multi_array(record.type, rng.normal(size=len(record.names or action.names)))


def _array_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    _, indices = encoding.selected(sink, contract)
    return message_class(sink.type)(data=array("d", command.action[indices].tolist()))


def _number(spec: InputSpec, message: Any, place: str) -> Array:
    return as_finite_float32(np.array([float(message.data)]), spec.names, place)


def _number_sample(spec: InputSpec, _: int, rng: Rng) -> Any:
    return samples.new(spec.type, float(np.float32(rng.normal())))


def _recorded_number(_: ActionSpec, __: RecordSpec, message: Any, ___: str) -> Array:
    return np.array([float(message.data)])


def _recorded_number_sample(_: ActionSpec, record: RecordSpec, __: int, ___: int, rng: Rng) -> Any:
    return samples.new(record.type, float(np.float32(rng.normal())))


def _number_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    _, indices = encoding.selected(sink, contract)
    return message_class(sink.type)(data=float(command.action[indices[0]]))


_NUMBER_INPUT = AsInput("fields", _number, _number_sample, ("data",), ("data",))
_NUMBER_RECORD = AsRecord(("joint_position",), _recorded_number, _recorded_number_sample, carries="one")
_NUMBER_SINK = AsSink(("joint_position",), _number_command, carries="one")


def _text(_: InputSpec, message: Any, place: str) -> Array:
    if len(message.data) > MAX_TEXT:
        raise DecodeError(f"{place}: an instruction has at most {MAX_TEXT} characters, got {len(message.data)}")
    return np.array(str(message.data))


def _text_sample(spec: InputSpec, _: int, rng: Rng) -> Any:
    return samples.new(spec.type, f"move object {rng.integers(100)} to the left")


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
        as_record=AsRecord(ANY_REPRESENTATION, _recorded_array, _recorded_array_sample, carries="any"),
        as_sink=AsSink(COMMANDED, _array_command, carries="any"),
    ),
    MessageType(
        "std_msgs/msg/Float32",
        "One number, as the opening of a gripper.",
        has_header=False,
        as_input=_NUMBER_INPUT,
        as_record=_NUMBER_RECORD,
        as_sink=_NUMBER_SINK,
    ),
    MessageType(
        "std_msgs/msg/Float64",
        "The same in double precision.",
        has_header=False,
        as_input=_NUMBER_INPUT,
        as_record=_NUMBER_RECORD,
        as_sink=_NUMBER_SINK,
    ),
    MessageType(
        "std_msgs/msg/String",
        f"The instruction, at most {MAX_TEXT} characters.",
        has_header=False,
        as_input=AsInput("text", _text, _text_sample),
    ),
)
