"""Where the filter has told the robot to be, and how fast: what the next command is measured against."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS
from vla_ros.safety.limits import Vector
from vla_ros.safety.measured import Measured

TRAIL_S = 0.15
"""How late a robot may follow relative commands, s, before the difference counts as motion that it did not make.

A plant that lags by a time constant T is still ``v * T * exp(-TRAIL_S / T)`` behind so long after it was stopped: by
that much it may pass a wall. The longer the time, the further a contact lets the reference run ahead of the robot.
"""
_TRAIL_STEPS = 16
_ZERO = np.zeros(3)


@dataclass(frozen=True)
class Reference:
    """The commanded state after a command, or after a seed.

    Attributes:
        position: [3], of the end effector in the base frame, m; None where not known.
        orientation: [4], quaternion; None where not known.
        joints: [A], rad; NaN where not known.
        velocity: [3], commanded by the last command, m/s.
        turn: [3], rad/s.
        joint_velocity: [A], rad/s.
        effect_ns: When the last command took effect; None after a seed.
        period_s: For how long it holds, s.
        trail_ns, trail: Where `position` was during the last `TRAIL_S`; [K, 3].
    """

    position: Vector | None
    orientation: Vector | None
    joints: Vector
    velocity: Vector
    turn: Vector
    joint_velocity: Vector
    effect_ns: int | None = None
    period_s: float = 0.0
    trail_ns: tuple[int, ...] = ()
    trail: Vector | None = None


@dataclass(frozen=True)
class FilterState:
    """Everything that the filter remembers between commands.

    Attributes:
        reference: The commanded state; None before the first seed or command.
        before: The reference that the last command was measured against: a second command for the same moment is
            measured against it too, so that both count as one.
        last_action: float64 [A], the last action that passed.
        passed_ns: When it took effect; None after a seed.
        faulted: Whether the robot was found not to follow; holds until the next seed.
    """

    reference: Reference | None = None
    before: Reference | None = None
    last_action: NDArray[np.float64] | None = None
    passed_ns: int | None = None
    faulted: bool = False


def seeded(measured: Measured, old: Reference | None, action_dim: int) -> Reference:
    """Return the reference of a robot that stands still where it is measured.

    Args:
        measured: The measurement.
        old: What counts for the parts that are not measured.
        action_dim: Numbers of an action.
    """
    unknown = np.full(action_dim, np.nan)
    joints = unknown if measured.joints is None else measured.joints
    position, orientation = measured.position, measured.orientation
    if old is not None:
        joints = np.where(np.isnan(joints), old.joints, joints)
        position = old.position if position is None else position
        orientation = old.orientation if orientation is None else orientation
    return Reference(position, orientation, joints, _ZERO, _ZERO, np.zeros(action_dim))


def advanced(reference: Reference, effect_ns: int, *, holds: bool) -> Reference:
    """Return the reference of a relative action at a later moment: moved by what the last command commanded.

    Args:
        reference: The state when the last command took effect.
        effect_ns: The moment.
        holds: Whether a command holds until the next one, as a twist does, or ends with its period.
    """
    if reference.position is None or reference.effect_ns is None:
        return reference
    elapsed_s = (effect_ns - reference.effect_ns) / NANOSECONDS
    moving_s = elapsed_s if holds else min(elapsed_s, reference.period_s)
    return replace(reference, position=reference.position + reference.velocity * moving_s)


def corrected(reference: Reference, measured: Vector) -> Reference:
    """Move the reference of a relative action to where a robot that follows it could be measured.

    A robot that follows, however late, is measured between places where the reference was during the last
    `TRAIL_S`. One that was held back by a contact, or that moves a little less than it is told to, is not; the
    reference is moved by the difference.

    Args:
        reference: The commanded state at the moment.
        measured: [3], where the robot is measured.
    """
    if reference.position is None or reference.trail is None:
        return reference
    low = np.minimum(reference.trail.min(axis=0), reference.position)
    high = np.maximum(reference.trail.max(axis=0), reference.position)
    shift = measured - np.minimum(np.maximum(measured, low), high)
    if not shift.any():
        return reference
    return replace(reference, position=reference.position + shift, trail=reference.trail + shift)


def with_trail(reference: Reference, effect_ns: int) -> Reference:
    """Remember where the reference is at `effect_ns`, and forget where it was longer than `TRAIL_S` ago."""
    if reference.position is None:
        return reference
    if reference.trail is None or not reference.trail_ns:
        return replace(reference, trail_ns=(effect_ns,), trail=reference.position[None])
    if effect_ns - reference.trail_ns[-1] < TRAIL_S * NANOSECONDS / _TRAIL_STEPS:
        return reference
    times, trail = (*reference.trail_ns, effect_ns), np.concatenate([reference.trail, reference.position[None]])
    first = 0  # one place before the time is kept: the robot was between it and the next
    while first + 1 < len(times) and times[first + 1] <= effect_ns - TRAIL_S * NANOSECONDS:
        first += 1
    return replace(reference, trail_ns=times[first:], trail=trail[first:])
