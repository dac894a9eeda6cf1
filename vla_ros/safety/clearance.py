"""How fast a base may drive towards what a scan shows: only as fast as it can stop before it. No state."""

import math

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract.schema.limits import ClearanceSpec

_STEP_M = 0.02  # between two places along the way that are looked at
_STRAIGHT = 1e-6  # 1/m; a flatter arc is a straight line


def in_base_frame(points: NDArray[np.generic], spec: ClearanceSpec) -> NDArray[np.float64]:
    """Return the places of a scan's points in the base frame, float64 [N, 2], without rows that are no point."""
    places = np.asarray(points, dtype=np.float64)[:, :2]
    places = places[np.isfinite(places).all(axis=1)]
    x, y, yaw = spec.mounting
    cosine, sine = math.cos(yaw), math.sin(yaw)
    turned: NDArray[np.float64] = places @ np.array([[cosine, sine], [-sine, cosine]]) + np.array([x, y])
    return turned


def free_distance(
    points: NDArray[np.float64], curvature: float, reach: float, clear: float, *, backwards: bool
) -> float:
    """Return how far a round base may drive along an arc, m, before a point would be nearer than `clear`.

    A point that is nearer already does not hold the base back while the way leads away from it.

    Args:
        points: In the base frame, m, float64 [N, 2].
        curvature: Of the arc, 1/m, positive to the left.
        reach: How far to look, m.
        clear: Distance to keep from the base's centre, m.
        backwards: Whether the base drives backwards.
    """
    if not len(points):
        return reach
    way = np.arange(1, math.ceil(reach / _STEP_M) + 1) * _STEP_M
    along = -way if backwards else way
    if abs(curvature) < _STRAIGHT:
        centres = np.stack([along, np.zeros_like(along)], axis=1)
    else:
        centres = np.stack([np.sin(along * curvature), 1.0 - np.cos(along * curvature)], axis=1) / curvature
    start = np.hypot(points[:, 0], points[:, 1])
    near = points[start <= reach + clear + _STEP_M]
    start = start[start <= reach + clear + _STEP_M]
    distance = np.hypot(*(near[None] - centres[:, None]).transpose(2, 0, 1))
    before = np.vstack([start[None], distance[:-1]])
    blocked = ((distance < clear) & (distance < before)).any(axis=1)
    return float(way[blocked.argmax()] - _STEP_M) if blocked.any() else reach


def allowed_speed(
    points: NDArray[np.float64], speed: float, turn: float, spec: ClearanceSpec, period_s: float
) -> float:
    """Return the speed along an arc, m/s, from which the base still stops in front of every point.

    Args:
        points: In the base frame, m, float64 [N, 2].
        speed: Wanted, m/s, negative backwards.
        turn: Wanted, rad/s.
        spec: Radius, margin and deceleration.
        period_s: Time until the next command, s, in which the speed stays.
    """
    if speed == 0.0:
        return 0.0
    wanted, brakes, clear = abs(speed), spec.deceleration, spec.radius + spec.margin
    reach = wanted * period_s + wanted**2 / (2.0 * brakes) + _STEP_M
    free = free_distance(points, turn / speed, reach, clear, backwards=speed < 0)
    # v·T + v²/2a = free, solved for v
    fits = brakes * (math.sqrt(period_s**2 + 2.0 * max(free, 0.0) / brakes) - period_s)
    return math.copysign(min(wanted, fits), speed)
