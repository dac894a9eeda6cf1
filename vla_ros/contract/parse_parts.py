"""Pieces of a contract that stand in several places: names, topics, quality of service, alignment."""

import re
from typing import Any, get_args

from vla_ros.contract.reader import Section
from vla_ros.contract.schema import Alignment, AlignmentSpec, QosSpec, Timeline

SENSOR_QOS = QosSpec("best_effort", "volatile", 5)
COMMAND_QOS = QosSpec("reliable", "volatile", 1)  # a backlog of old velocities would be executed late
LATCHED_QOS = QosSpec("reliable", "transient_local", 1)  # what holds until it is replaced

_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


def text(at: Section, field: str, *default: str) -> str:
    """Return a string that says something.

    Raises:
        UserError: It is empty or blank, or missing without a default.
    """
    value = at.scalar(field, str, *default)
    if not value.strip():
        raise at.fail(field, "must not be empty")
    return value


def topic(at: Section, *default: str) -> str:
    """Return the field ``topic``: a full ROS name, because bags store full names.

    Raises:
        UserError: It is not of the form ``/name/name``.
    """
    name = at.scalar("topic", str, *default)
    if not _TOPIC.fullmatch(name):
        raise at.fail(
            "topic", f"'{name}' is not a full topic name like /arm/joint_states (letters, digits and _ between '/')"
        )
    return name


def parse_qos(at: Section, default: QosSpec) -> QosSpec:
    """Return the field ``qos``; what it leaves out is taken from `default`."""
    section = at.section("qos", {})
    reliability: Any = section.scalar("reliability", str, default.reliability, choices=("reliable", "best_effort"))
    durability: Any = section.scalar("durability", str, default.durability, choices=("volatile", "transient_local"))
    spec = QosSpec(reliability, durability, section.scalar("depth", int, default.depth, minimum=1))
    section.finish()
    return spec


def parse_alignment(at: Section, *, numeric: bool, has_header: bool, default: Alignment = "hold") -> AlignmentSpec:
    """Return the field ``alignment``.

    Args:
        at: The stream.
        numeric: Whether its values are numbers that can be interpolated.
        has_header: Whether its messages carry a stamp.
        default: The method where none is given.

    Raises:
        UserError: The method or the timeline does not fit the stream.
    """
    section = at.section("alignment", {})
    method: Any = section.scalar("method", str, default, choices=get_args(Alignment))
    usual = "header" if method != "latch" else "receive"
    timeline: Any = section.scalar("timeline", str, usual, choices=get_args(Timeline))
    section.finish()
    if method == "latch" and timeline != "receive":
        raise section.fail("timeline", "of a latched input is always 'receive': it holds from the moment it came")
    if method == "interpolate" and not numeric:
        raise section.fail("method", "'interpolate' needs numbers; images and points take 'hold' or 'nearest'")
    if timeline == "header" and not has_header:
        raise section.fail("timeline", "must be 'receive' for this type, which carries no header")
    return AlignmentSpec(method, timeline)
