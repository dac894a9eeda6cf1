"""JointState, MultiArray and messages of single numbers → float64 or float32 [S]. No topics, no time.

A policy gets float32, so a number counts as finite when it is finite as float32.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DecodeError, nearest_name
from vla_ros.data_types.foreign_text import MAX_NAMES, listed, plain

JOINT_FIELDS = ("position", "velocity", "effort")
"""Arrays of a JointState, in the order of the message."""

_MAX = float(np.finfo(np.float32).max)

_NORM_TOLERANCE = 0.1
"""How far from 1 the length of a quaternion may be. Rounding stays below; a zero or a damaged one is far beyond."""


def as_finite_float32(values: NDArray[Any], names: tuple[str, ...], place: str) -> NDArray[np.float32]:
    """Return numbers as the policy gets them.

    Args:
        values: float [S].
        names: Their names.
        place: Topic and key, for messages.

    Raises:
        DecodeError: One is NaN, infinite, or too large for float32; names the first.
    """
    fits = np.abs(values) <= _MAX  # False for NaN
    if not fits.all():
        index = int(np.argmin(fits))
        raise DecodeError(f"{place}: '{names[index]}' is {values[index]:g}, not a finite number in float32")
    return np.asarray(values, dtype=np.float32)


def check_finite(values: NDArray[Any], names: tuple[str, ...], place: str) -> None:
    """Refuse a vector with a number that is not finite as float32: a policy would turn it into a command.

    Raises:
        DecodeError: Names the first such number.
    """
    as_finite_float32(values, names, place)


def joint_values(message: Any, joints: tuple[str, ...], field: str, place: str) -> NDArray[np.float64]:
    """Return one field of a JointState for the named joints, float64 [S]; the message's order may be any.

    Raises:
        DecodeError: A joint is missing, a name stands there twice, or a field holds another number of values than there
            are names (the fields that are not read may be empty).
    """
    names = message.name
    index_of = {name: index for index, name in enumerate(names)}
    for other in JOINT_FIELDS:
        length = len(getattr(message, other, ()))
        if length != len(names) and (other == field or length):
            raise DecodeError(f"{place}: the message names {len(names)} joints but has {length} {other} values")
    if len(index_of) != len(names):
        twice = next(name for index, name in enumerate(names) if index_of[name] != index)
        raise DecodeError(f"{place}: the message names joint '{plain(twice)}' more than once")
    for joint in joints:
        if joint not in index_of:
            near = nearest_name(joint, map(plain, names[: 10 * MAX_NAMES]))
            raise DecodeError(f"{place}: no joint '{joint}' in the message, which has {listed(names)}.{near}")
    values = getattr(message, field)
    return np.array([values[index_of[joint]] for joint in joints], dtype=np.float64)


def array_values(message: Any, names: tuple[str, ...], place: str) -> NDArray[np.float64]:
    """Return a MultiArray's data, float64 [S].

    Raises:
        DecodeError: It does not hold one number per name, or its layout is of another number of values.
    """
    length = len(message.data)
    if length != len(names):
        raise DecodeError(f"{place}: expected {len(names)} numbers ({', '.join(names)}), got {length}")
    layout = getattr(message, "layout", None)
    if layout is not None:
        sizes = [int(dimension.size) for dimension in layout.dim]
        offset = int(layout.data_offset)
        if offset or (sizes and (len(sizes) > MAX_NAMES or math.prod(sizes) != length)):
            raise DecodeError(
                f"{place}: the layout says {listed(sizes)} numbers from the one at {offset}, but there are {length}"
            )
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is refused afterwards by its name
        return np.asarray(message.data, dtype=np.float64)


@lru_cache(maxsize=256)
def _getters(paths: tuple[str, ...]) -> tuple[Callable[[Any], Any], ...]:
    return tuple(attrgetter(path) for path in paths)


@lru_cache(maxsize=256)
def _rotations(paths: tuple[str, ...]) -> dict[str, Callable[[Any], Any]]:
    """Return where the quaternions are of which numbers are read: path → getter."""
    parents = dict.fromkeys(path.rpartition(".")[0] for path in paths)
    return {path: attrgetter(path) for path in parents if path.rpartition(".")[2] == "orientation"}


def field_values(message: Any, paths: tuple[str, ...], place: str) -> NDArray[np.float64]:
    """Return the numbers at dotted paths of a message, float64 [S].

    Raises:
        DecodeError: A number is read from a quaternion whose length is not 1.
    """
    for path, get in _rotations(paths).items():
        quaternion = get(message)
        check_quaternion([quaternion.x, quaternion.y, quaternion.z, quaternion.w], path, place)
    return np.array([get(message) for get in _getters(paths)], dtype=np.float64)


def check_quaternion(quaternion: Iterable[float], path: str, place: str) -> None:
    """Refuse four numbers that stand for no rotation.

    Raises:
        DecodeError: Their length is not 1 within a tenth, or not a number.
    """
    length = math.hypot(*quaternion)
    if not abs(length - 1.0) <= _NORM_TOLERANCE:  # also true of NaN
        raise DecodeError(f"{place}: {path} is a quaternion of length {length:g}, not 1, and stands for no rotation")
