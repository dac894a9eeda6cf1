"""What a base saw and meant to do, from above: its scan, the way it came, the trajectory that it predicted. No ROS."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.evaluation.rollout_report import EpisodeTrace

KEY = "plan view"
"""Of the pictures that are drawn, among those of the cameras."""

SIDE, REACH_M = 192, 4.0
"""Pixels of a picture, and how far it reaches from the base to each side, m."""

_GROUND, _BASE, _SCAN, _WAY, _PLAN = (250, 250, 250), (40, 40, 40), (59, 111, 182), (150, 150, 150), (209, 128, 58)
_BASE_M = 0.22

Vector = NDArray[np.float64]


def add_plan_view(trace: EpisodeTrace, contract: RobotContract) -> None:
    """Draw a picture beside each of the cameras', where the robot is a base that was seen moving."""
    if contract.commanded.action.representation != "planar_twist" or not trace.poses:
        return
    stamps = sorted({stamp for images in trace.images.values() for stamp, _ in images})
    trace.images[KEY] = [(stamp, draw(trace, contract, stamp)) for stamp in stamps]


def draw(trace: EpisodeTrace, contract: RobotContract, stamp_ns: int) -> NDArray[np.uint8]:
    """Return what was known at a moment, uint8 [SIDE, SIDE, 3]; the base in the middle, ahead of it is up."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (SIDE, SIDE), _GROUND)
    pen = ImageDraw.Draw(picture)
    pose = _newest(trace.poses, stamp_ns)
    scan = _newest(trace.scans, stamp_ns)
    if scan is not None:
        for x, y in _pixels(scan):
            pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=_SCAN)
    if pose is not None:
        way = np.array([here[:2] for at, here in trace.poses if at <= stamp_ns])
        _line(pen, seen_from(way, pose), _WAY)
    plan = _newest(trace.plans, stamp_ns)
    if plan is not None:
        planned_at = max(at for at, _ in trace.plans if at <= stamp_ns)
        ahead = predicted_way(plan, contract, _newest(trace.poses, planned_at))
        if pose is not None and ahead is not None:
            _line(pen, seen_from(ahead, pose), _PLAN, width=2)
    middle, radius = SIDE / 2.0, _BASE_M / REACH_M * SIDE / 2.0
    pen.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), outline=_BASE, width=2)
    pen.line((middle, middle, middle, middle - radius), fill=_BASE, width=2)
    return np.asarray(picture, dtype=np.uint8)


def predicted_way(plan: Vector, contract: RobotContract, pose: Vector | None) -> Vector | None:
    """Return the places that a prediction leads to, x, y in the odometry's frame, float64 [H + 1, 2].

    Args:
        plan: Waypoints x, y, yaw, or twists of a period each, float64 [H, A].
        contract: Says which.
        pose: x, y, yaw of the base when it was made.
    """
    if pose is None:
        return None
    if contract.action.representation == "trajectory":
        return np.concatenate((pose[None, :2], plan[:, :2]))
    period_s = 1.0 / contract.fps
    yaw = pose[2] + period_s * np.concatenate(([0.0], np.cumsum(plan[:, -1])[:-1]))
    steps = plan[:, :1] * period_s * np.stack((np.cos(yaw), np.sin(yaw)), axis=1)
    way: Vector = np.concatenate((pose[None, :2], pose[:2] + np.cumsum(steps, axis=0)))
    return way


def seen_from(points: Vector, pose: Vector) -> Vector:
    """Return points of the odometry's frame in the base's, float64 [N, 2]."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    seen: Vector = (points - pose[:2]) @ np.array(((cos, -sin), (sin, cos)))
    return seen


def _newest(entries: Sequence[tuple[int, Vector]], stamp_ns: int) -> Vector | None:
    known = [value for at, value in entries if at <= stamp_ns]
    return known[-1] if known else None


def _pixels(points: Vector) -> list[tuple[float, float]]:
    scale = SIDE / 2.0 / REACH_M
    return [(SIDE / 2.0 - y * scale, SIDE / 2.0 - x * scale) for x, y in points.tolist()]


def _line(pen: Any, points: Vector, colour: tuple[int, int, int], width: int = 1) -> None:
    if len(points) > 1:
        pen.line(_pixels(points), fill=colour, width=width)
