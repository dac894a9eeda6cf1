"""What each ROS message type can be in a contract: one row per type, found by name. No ROS and no decoder here.

The rows of this package stand in ``vla_ros/messages/types``, one module per ROS package. A contract cannot
import them: they are loaded when the first one is asked for. Another package adds its own by an entry point of
``vla_ros.messages`` that has the type's name, or in the process with `register_message`.
"""

import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from vla_ros.data_types import ConfigError
from vla_ros.registry import MESSAGES, Entry

Form = Literal["image", "points", "window", "joints", "fields", "array", "text", "transform"]

Carries = Literal["motion", "all", "any", "one"]

CARTESIAN = ("displacement", "twist", "pose")
"""Representations of an end effector's motion."""

ANY_REPRESENTATION = (*CARTESIAN, "joint_position", "planar_twist", "trajectory")
"""All of them."""

COMMANDED = tuple(name for name in ANY_REPRESENTATION if name != "trajectory")
"""Those whose single steps are commands as they are; a trajectory is followed by twists."""

ROWS = "vla_ros.messages.types"
"""Package whose modules hold the rows, each a tuple ``ROWS``."""


@dataclass(frozen=True)
class SensorKey:
    """The feature key that a kind of sensor has in every contract, so that policies and tools find it.

    Attributes:
        pattern: As ``observation.scan.<lidar>``; what stands in ``<>`` is a name of the robot's own.
        applies: Of which of the type's inputs (an InputSpec) it is the key.
    """

    pattern: str
    applies: Callable[[Any], bool] = lambda _: True


@dataclass(frozen=True)
class AsInput:
    """A message type as an input.

    Attributes:
        form: Decides which form section the contract needs.
        decode: (InputSpec, message, place) → the value, as `vla_ros.messages.decode_input`; raises DecodeError.
        sample: (InputSpec, stamp_ns, numpy Generator) → an example as a rosbags message.
        all_fields: Fields that may be selected, as dotted paths; empty where the form decides.
        fields: Those selected when the contract names none.
        keys: Which key an input has; any ``observation.…`` where none applies.
    """

    form: Form
    decode: Callable[[Any, Any, str], Any]
    sample: Callable[[Any, int, Any], Any]
    all_fields: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    keys: tuple[SensorKey, ...] = ()


@dataclass(frozen=True)
class AsRecord:
    """A message type as (a part of) a recorded action.

    Attributes:
        representations: Those that it can carry; a type that carries named numbers can carry the gripper of any.
        decode: (ActionSpec, RecordSpec, message, place) → float64, one number per name of the part; raises DecodeError.
        sample: (ActionSpec, RecordSpec, stamp_ns, period_ns, numpy Generator) → an example as a rosbags message.
        carries: Which names of the action a message gives: ``motion`` all but a gripper, ``all`` of them, ``any``
            that the part names, or ``one`` that it names.
    """

    representations: tuple[str, ...]
    decode: Callable[[Any, Any, Any, str], Any]
    sample: Callable[[Any, Any, int, int, Any], Any]
    carries: Carries = "motion"


@dataclass(frozen=True)
class AsSink:
    """A message type as a command topic.

    Attributes:
        representations: As of `AsRecord`.
        encode: (SinkSpec, RobotContract, Command, or the ActionChunk where `whole_chunk`) → the rclpy message.
        carries: As of `AsRecord`.
        whole_chunk: Whether it is published once per prediction, with every step.
        is_telemetry: Whether it moves nothing by itself: a dry run publishes it too, and no number of the action counts
            as sent by it.
        needs_rotation: Whether it commands an orientation, so that an action without one cannot be sent by it.
    """

    representations: tuple[str, ...]
    encode: Callable[[Any, Any, Any], Any]
    carries: Carries = "motion"
    whole_chunk: bool = False
    is_telemetry: bool = False
    needs_rotation: bool = False


@dataclass(frozen=True)
class MessageType:
    """One ROS type.

    Attributes:
        name: ROS type, ``pkg/msg/Type``, of a sink also ``pkg/action/Type``.
        meaning: What it is read as or sent for, one sentence for the documentation.
        has_header: Whether a std_msgs/Header is its first field.
        as_input, as_record, as_sink: What it can be; None where it cannot.
    """

    name: str
    meaning: str
    has_header: bool = True
    as_input: AsInput | None = None
    as_record: AsRecord | None = None
    as_sink: AsSink | None = None

    @property
    def form(self) -> Form:
        """Form as an input."""
        return self._input.form

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields selected by default as an input."""
        return self._input.fields

    @property
    def all_fields(self) -> tuple[str, ...]:
        """Fields that may be selected as an input."""
        return self._input.all_fields

    @property
    def _input(self) -> AsInput:
        if self.as_input is None:
            raise ValueError(f"{self.name} is no input")
        return self.as_input


_types: dict[str, MessageType] = {}
_LOG = logging.getLogger(__name__)


def register_message(row: MessageType) -> None:
    """Make a message type known to contracts, nodes and converters.

    Raises:
        ConfigError: Another row has its name; names both owners.
    """
    MESSAGES.register(row.name, row, _module_of(row))
    _types[row.name] = row


def message_types() -> Mapping[str, MessageType]:
    """Return every known type by its name."""
    _load()
    return _types


def has_header(type_name: str) -> bool:
    """Whether messages of a type carry a stamp; types that are not known are taken to."""
    row = message_types().get(type_name)
    return row is None or row.has_header


@lru_cache(maxsize=1)
def _load() -> None:
    for module in pkgutil.iter_modules(import_module(ROWS).__path__):
        for row in import_module(f"{ROWS}.{module.name}").ROWS:
            register_message(row)
    for name in MESSAGES:
        entry = MESSAGES.entry(name)  # a type that two packages claim is an error for everybody
        if name not in _types:
            _adopt(entry)


def _adopt(entry: Entry) -> None:
    """Take up a row of another package; one that is broken is logged, and its type stays unknown."""
    try:
        row: MessageType = MESSAGES.load(entry)
    except ConfigError as reason:
        _LOG.warning("%s", reason)
        return
    if row.name == entry.name:
        _types[row.name] = row
    else:
        _LOG.warning("message type '%s' of %s (%s) is a row of %s", entry.name, entry.owner, entry.place, row.name)


def _module_of(row: MessageType) -> str:
    """Return the module that wrote a row, by one of its functions."""
    functions = [part.decode for part in (row.as_input, row.as_record) if part is not None]
    functions += [row.as_sink.encode] if row.as_sink is not None else []
    return functions[0].__module__ if functions else __name__


Value = TypeVar("Value")


class _View(Mapping[str, Value], Generic[Value]):
    """The rows that can be one thing, by name."""

    def __init__(self, choose: Callable[[MessageType], Value | None]) -> None:
        self._choose = choose

    def __getitem__(self, name: str) -> Value:
        value = self._choose(message_types()[name])
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name, row in message_types().items() if self._choose(row) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


INPUT_TYPES: Mapping[str, MessageType] = _View(lambda row: row if row.as_input else None)
"""Types of input streams."""

SINK_REPRESENTATIONS: Mapping[str, tuple[str, ...]] = _View(
    lambda row: row.as_sink.representations if row.as_sink else None
)
"""Types of command topics, and the action representations that each can carry."""

ACTION_SOURCES: Mapping[str, tuple[str, ...]] = _View(
    lambda row: row.as_record.representations if row.as_record else None
)
"""Types that a recorded action may be read from, and the representations that each can carry."""
