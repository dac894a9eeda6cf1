"""Paths of the numbers of common message parts, and the row of a type whose numbers are read field by field."""

from collections.abc import Callable
from typing import Any

from vla_ros.contract import InputSpec
from vla_ros.contract.types import AsInput, SensorKey
from vla_ros.data_types import Array
from vla_ros.messages.forms.vectors import as_finite_float32, field_values


def xyz(prefix: str) -> tuple[str, ...]:
    """Return the paths of a vector."""
    return tuple(f"{prefix}.{axis}" for axis in "xyz")


def xyzw(prefix: str) -> tuple[str, ...]:
    """Return the paths of a quaternion."""
    return tuple(f"{prefix}.{axis}" for axis in "xyzw")


POSE = xyz("pose.position") + xyzw("pose.orientation")
TWIST = xyz("linear") + xyz("angular")


def under(prefix: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return paths within a part of a message."""
    return tuple(f"{prefix}.{path}" for path in paths)


def decode_fields(spec: InputSpec, message: Any, place: str) -> Array:
    """Return the contract's fields of a message, float32 [S]."""
    return as_finite_float32(field_values(message, spec.fields, place), spec.names, place)


def fields_input(
    all_fields: tuple[str, ...], sample: Callable[[InputSpec, int, Any], Any], *keys: SensorKey
) -> AsInput:
    """Return how a type is an input whose fields may be selected, all of them by default."""
    return AsInput("fields", decode_fields, sample, all_fields, all_fields, keys)
