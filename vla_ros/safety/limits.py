"""Bounds on velocities as pure functions of arrays. No state, no action forms.

Every function returns its argument unchanged, the same object, when it is within bounds: the filter sees from that
whether it intervened. The bounded sets fit into each other. They are applied in the order speed, acceleration, walls,
and no later one leads out of an earlier one (see each function), so a filtered motion passes the filter unchanged.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]

_STILL = 1e-12  # m/s, rad/s

_SLACK = 1.0 + 1e-9
"""Scaling to a length leaves a vector longer by rounding; without slack that would count as an intervention."""


def clamp(values: Vector, lower: Vector, upper: Vector) -> Vector:
    """Limit each number to its own range."""
    clamped = np.minimum(np.maximum(values, lower), upper)
    return values if (clamped == values).all() else clamped


def limit_length(vector: Vector, maximum: float) -> Vector:
    """Shorten a vector to a length; its direction stays."""
    length = float(np.sqrt(vector @ vector))
    return vector if length <= maximum * _SLACK else vector * (maximum / length)


def limit_ratio(vector: Vector, maximum: Vector) -> Vector:
    """Shorten a vector until every number is within its own maximum; its direction stays."""
    ratio = float(np.max(np.abs(vector) / maximum))  # 0 where there is no maximum
    return vector if ratio <= _SLACK else vector / ratio


def limit_change(velocity: Vector, previous: Vector, maximum: float) -> Vector:
    """Limit how far a velocity may be from the previous one, except by slowing down.

    An axis that moves towards zero without crossing it is always free to: a limit on acceleration must never delay a
    stop. The other axes approach the wanted velocity together, as far as `maximum` goes. The result lies between
    `previous` and `velocity` on every axis, hence within every box and every speed that holds both of them.

    Args:
        velocity: Wanted velocity.
        previous: The velocity commanded before.
        maximum: Length of the change allowed, in the same unit: acceleration times the time between the two.
    """
    braking = _braking(velocity, previous)
    change = np.where(braking, 0.0, velocity - previous)
    length = float(np.sqrt(change @ change))
    if length <= maximum * _SLACK:
        return velocity
    return np.where(braking, velocity, previous + change * (maximum / length))


def limit_each_change(velocity: Vector, previous: Vector, maximum: Vector) -> Vector:
    """As `limit_change`, each number by a maximum of its own."""
    change = velocity - previous
    free = _braking(velocity, previous) | (np.abs(change) <= maximum * _SLACK)
    return velocity if free.all() else np.where(free, velocity, previous + np.clip(change, -maximum, maximum))


def _braking(velocity: Vector, previous: Vector) -> NDArray[np.bool_]:
    # a velocity this small is standing still: whether its product with another one underflows must decide nothing
    onwards = velocity * np.sign(previous) >= -_STILL
    braking: NDArray[np.bool_] = onwards & (np.abs(velocity) <= np.abs(previous))
    return braking


def towards_walls(
    position: Vector, low: Vector, high: Vector, duration_s: float, acceleration: Vector | float
) -> tuple[Vector, Vector]:
    """Return the slowest and the fastest velocity that lead through no wall and can still be braked before it.

    Both include standing still, so that limiting to them only slows an axis down: bounds on speed and acceleration
    keep holding (see `limit_change`). Beyond a wall no axis may lead further out, and every axis may lead back.

    A velocity v held for `duration_s` and then reduced by at most ``a * duration_s`` in every period covers
    ``v² / 2a + v * duration_s / 2``; solved for v, that is the fastest approach from a given distance.

    Args:
        position: Where the robot is.
        low: Lower walls; -inf where there is none.
        high: Upper walls.
        duration_s: For how long a velocity holds, s.
        acceleration: What braking is planned with; inf for none.
    """
    fastest = _approach(high - position, duration_s, acceleration)
    return -_approach(position - low, duration_s, acceleration), fastest


def _approach(distance: Vector, duration_s: float, acceleration: Vector | float) -> Vector:
    ahead = np.maximum(distance, 0.0)
    at_once = ahead / duration_s
    if np.isinf(acceleration).all():
        return at_once
    with np.errstate(invalid="ignore"):  # a wall infinitely far away, no limit on braking
        half = 0.5 * duration_s
        braked = acceleration * (np.sqrt(half * half + 2.0 * ahead / acceleration) - half)
    # inf * (something - something) is NaN where there is no limit; fmin takes the other one
    return np.asarray(np.fmin(at_once, braked), dtype=np.float64)
