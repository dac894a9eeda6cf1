"""What the filter asks of each kind of action: displacement and twist, pose, joint positions.

A kind knows what of the measured state it needs, when a command must be dropped, and how a command is bounded.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ActionSpec
from vla_ros.data_types.rotations import convert, from_quaternion, inverse, multiply, to_quaternion
from vla_ros.safety.limits import Vector
from vla_ros.safety.measured import Measured
from vla_ros.safety.reference import Reference

Action = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """The time of one command.

    Attributes:
        effect_ns: When it takes effect.
        period_s: For how long it holds, s.
        elapsed_s: In which the motion may change since the command before, at most a period, s; 0 for a step of a
            chunk that is already past.
    """

    effect_ns: int
    period_s: float
    elapsed_s: float


class Motion(Protocol):
    """One kind of action."""

    @property
    def measures(self) -> bool:
        """Whether the measured state bounds the command, and the contract says where it is measured."""

    def unknown(self, measured: Measured) -> bool:
        """Whether the measurement lacks what the contract says is measured and the bounds need."""

    def refusal(self, reference: Reference, measured: Measured, span: Span) -> str:
        """Name what forbids the command, or return an empty string."""

    def bounded(
        self, action: Action, reference: Reference, measured: Measured, span: Span, done: list[str]
    ) -> tuple[Action, Reference]:
        """Bound an action whose numbers are within their ranges.

        Args:
            action: float64 [A].
            reference: The state before the command.
            measured: The newest measurement, with parts that may be missing.
            span: Its time.
            done: Takes the names of what was done.

        Returns:
            The action, the same object when nothing was done, and the state after it, but for its time.
        """

    def at(self, reference: Reference, effect_ns: int) -> Reference:
        """Return the commanded state at a later moment, at which nothing new is commanded."""

    def after(self, reference: Reference, measured: Measured, span: Span) -> Measured:
        """Return what would be measured after a command that the robot follows exactly."""

    def hold(self, reference: Reference | None, last: Action | None, measured: Measured) -> Action | None:
        """Return the action that stands still, or None where it is not known."""


def noted(bounded: Vector, before: Vector, name: str, done: list[str]) -> Vector:
    """Note an intervention when the bounded vector is another one than before."""
    if bounded is not before:
        done.append(name)
    return bounded


def put(action: Action, part: slice, values: Vector) -> Action:
    """Return the action with some numbers replaced."""
    changed = action.copy()
    changed[part] = values
    return changed


def normalised(action: Action, spec: ActionSpec) -> Action:
    """Return the action with its quaternion at unit length, its sign kept; the same object when it has it.

    A rot6d is left as it is unless one of its numbers is larger than any number of a rotation.
    """
    if spec.rotation not in ("quaternion", "rot6d"):
        return action
    part = action[spec.rotation_slice]
    if spec.rotation == "rot6d":
        larger = np.abs(part).max() > 1.0 + 1e-9
        return put(action, spec.rotation_slice, convert(part, "rot6d", "rot6d")) if larger else action
    length = float(np.sqrt(part @ part))
    return action if abs(length - 1.0) <= 1e-12 else put(action, spec.rotation_slice, part / length)


def turn_between(start: Vector, end: Vector) -> Vector:
    """Return the shortest turn [3] from one orientation to another, rad, in the frame that both are given in."""
    return from_quaternion(multiply(end, inverse(start)), "rotation_vector")


def turned(start: Vector, turn: Vector) -> Vector:
    """Return an orientation after a turn [3], rad, in the frame that it is given in."""
    return to_quaternion(multiply(to_quaternion(turn, "rotation_vector"), start), "quaternion")


def gripper_known(spec: ActionSpec, action: Action, last: Action | None) -> Action | None:
    """Set the gripper of a standstill as it was last commanded; None where nothing was commanded yet."""
    index = spec.gripper_index
    if index is None:
        return action
    if last is None:
        return None
    action[index] = last[index]
    return action
