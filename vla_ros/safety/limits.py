"""Bounds on velocities as pure functions of arrays. No state, no action forms, no time.

Every function returns its argument unchanged, the same object, when it is within bounds: the filter sees from that
whether it intervened. The bounded sets fit into each other. They are applied in the order speed, acceleration, box,
and no later one leads out of an earlier one (see each function), so a filtered motion passes the filter unchanged.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]

_SLACK = 1.0 + 1e-9
"""Scaling to a length leaves a vector longer by rounding; without slack that would count as an intervention."""


def clamp(values: Vector, lower: Vector, upper: Vector) -> Vector:
    """Limit each number to its own range."""
    clamped = np.clip(values, lower, upper)
    return values if np.array_equal(clamped, values) else clamped


def limit_length(vector: Vector, maximum: float) -> Vector:
    """Shorten a vector to a length; its direction stays."""
    length = float(np.linalg.norm(vector))
    return vector if length <= maximum * _SLACK else vector * (maximum / length)


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
    braking = (np.sign(velocity) * np.sign(previous) >= 0) & (np.abs(velocity) <= np.abs(previous))
    change = np.where(braking, 0.0, velocity - previous)
    length = float(np.linalg.norm(change))
    if length <= maximum * _SLACK:
        return velocity
    return np.where(braking, velocity, previous + change * (maximum / length))


def limit_to_box(velocity: Vector, position: Vector, low: Vector, high: Vector, duration_s: float) -> Vector:
    """Limit a velocity so that `duration_s` of it does not lead out of a box.

    Outside the box no axis may lead further out, and every axis may lead back; nothing is moved that was not commanded.
    Each axis only gets slower, so bounds on speed and on acceleration (see `limit_change`) keep holding.

    Args:
        velocity: Wanted velocity, m/s.
        position: Where the robot is, m.
        low: Lower corner, m.
        high: Upper corner, m.
        duration_s: For how long the velocity holds, s.
    """
    slowest = np.minimum((low - position) / duration_s, 0.0)
    fastest = np.maximum((high - position) / duration_s, 0.0)
    clamped = clamp(velocity, slowest, fastest)
    return velocity if np.allclose(clamped, velocity, rtol=0.0, atol=1e-12) else clamped
