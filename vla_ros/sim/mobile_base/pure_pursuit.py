"""A pure-pursuit tracker: the speed and rate of turn that follow a path (Coulter 1992, CMU-RI-TR-92-01)."""

import math

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_BRAKING_S = 0.3  # from the path's end at which the base begins to slow down


def pursue(
    path: Vector,
    pose: Vector,
    speed: float,
    *,
    lookahead_m: float = 0.4,
    max_turn: float = 1.8,
    stops_at_end: bool = True,
) -> tuple[float, float]:
    """Return the speed, m/s, and rate of turn, rad/s, that follow a path.

    The base turns on the spot, or nearly so, towards what is beside or behind it, and slows down before the end.

    Args:
        path: x, y in m, float64 [N, 2], in the frame of the pose.
        pose: x, y in m, yaw in rad.
        speed: Along a straight path, m/s.
        lookahead_m: How far along the path, from its nearest point, the base aims.
        max_turn: rad/s.
        stops_at_end: Whether to slow down before the path's end.
    """
    target, left_m = point_ahead(path, pose[:2], lookahead_m)
    offset = target - pose[:2]
    distance = float(np.hypot(*offset))
    if distance < 1e-3 or (stops_at_end and left_m < 0.02):
        return 0.0, 0.0
    angle = wrap(math.atan2(offset[1], offset[0]) - pose[2])
    if stops_at_end:
        speed = min(speed, left_m / _BRAKING_S)
    ahead = speed * max(0.0, math.cos(angle)) ** 2
    if abs(angle) > math.radians(60.0):
        return 0.0, math.copysign(max_turn, angle)
    turn = 2.0 * ahead * math.sin(angle) / max(distance, 1e-6) if ahead > 0.0 else 0.0
    turn += 1.2 * angle  # what the curvature alone leaves when the base stands
    return ahead, float(np.clip(turn, -max_turn, max_turn))


def point_ahead(path: Vector, position: Vector, ahead_m: float) -> tuple[Vector, float]:
    """Return the point of a path some way ahead of the one nearest to a position, and how much path is left in m."""
    steps = np.diff(path, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    along = np.concatenate(([0.0], np.cumsum(lengths)))
    if along[-1] < 1e-9:
        return path[-1], float(np.hypot(*(path[-1] - position)))
    share = np.clip(((position - path[:-1]) * steps).sum(axis=1) / np.maximum(lengths**2, 1e-12), 0.0, 1.0)
    nearest = path[:-1] + share[:, None] * steps
    index = int(np.argmin(np.hypot(*(nearest - position).T)))
    here = along[index] + share[index] * lengths[index]
    at = min(here + ahead_m, along[-1])
    target = np.array([np.interp(at, along, path[:, 0]), np.interp(at, along, path[:, 1])])
    return target, float(along[-1] - here)


def wrap(angle: float) -> float:
    """Return an angle within ±π."""
    return math.remainder(angle, 2.0 * math.pi)
