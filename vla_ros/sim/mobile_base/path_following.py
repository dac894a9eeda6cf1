"""Commands that are paths: what a nav_msgs/Path says, and the tracker in the base that follows it by its odometry."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.sim.command_reader import nanoseconds
from vla_ros.sim.commands import CommandRefusedError
from vla_ros.sim.mobile_base.pure_pursuit import pursue

Vector = NDArray[np.float64]

PATH = "nav_msgs/msg/Path"
_REMEMBERED = 200  # steps, 2 s


@dataclass(frozen=True)
class PathOrder:
    """A path to follow.

    Attributes:
        points: x, y in m, float64 [N, 2].
        times_s: When each is to be reached, after the path's stamp, float64 [N]; zeros where it does not say.
        is_relative: Whether the points are in the base's frame as it was when the path begins to be followed.
    """

    points: Vector
    times_s: Vector
    is_relative: bool


def read_path(message: Any, base_frame: str, odometry_frame: str) -> tuple[int, PathOrder]:
    """Return when a path begins, ns, and what it says.

    Raises:
        CommandRefusedError: It is empty, in another frame, or a number in it is not finite.
    """
    frame = message.header.frame_id
    if frame not in (base_frame, odometry_frame):
        raise CommandRefusedError("frame", f"frame_id is '{frame}', expected '{base_frame}' or '{odometry_frame}'")
    if not message.poses:
        raise CommandRefusedError("empty", "the path has no poses")
    stamp_ns = nanoseconds(message.header.stamp)
    points = np.array([(item.pose.position.x, item.pose.position.y) for item in message.poses], np.float64)
    times = np.array([(nanoseconds(item.header.stamp) - stamp_ns) / 1e9 for item in message.poses])
    if times[-1] < 0.0:
        raise CommandRefusedError("time", "the last pose of the path lies before the path's own stamp")
    if not np.isfinite(points).all():
        raise CommandRefusedError("not_finite", "a pose of the path is not finite")
    return stamp_ns, PathOrder(points, times, frame == base_frame)


class PathTracker:
    """Follows a path by pure pursuit, at the speed that its stamps ask for.

    Args:
        max_turn: rad/s.
        speed: Where the path's poses carry no times of their own, m/s.
    """

    def __init__(self, max_turn: float, speed: float = 0.6) -> None:
        self._max_turn, self._speed = max_turn, speed
        self.order: PathOrder | None = None
        self._points: Vector | None = None
        self._poses: deque[tuple[int, Vector]] = deque(maxlen=_REMEMBERED)

    def note(self, step: int, pose: Vector) -> None:
        """Remember where the base believes to be."""
        self._poses.append((step, pose))

    def follow(self, order: PathOrder) -> None:
        """Take up a path, from where the base is."""
        self.order = order
        x, y, yaw = self._poses[-1][1]
        points = np.concatenate((np.zeros((1, 2)), order.points)) if order.is_relative else order.points
        if order.is_relative:
            turn = np.array(((np.cos(yaw), -np.sin(yaw)), (np.sin(yaw), np.cos(yaw))))
            points = points @ turn.T + (x, y)
        else:
            points = np.concatenate(((x, y), points.ravel())).reshape(-1, 2)
        self._points = points
        self._wanted = _speed_of(order, points, self._speed)

    def drop(self) -> None:
        """Follow nothing."""
        self.order = self._points = None

    def twist(self, pose: Vector) -> tuple[float, float]:
        """Return the speed, m/s, and rate of turn, rad/s, for a pose of the odometry."""
        if self._points is None:
            return 0.0, 0.0
        return pursue(self._points, pose, self._wanted, max_turn=self._max_turn)


def _speed_of(order: PathOrder, points: Vector, default: float) -> float:
    """Return the mean speed that reaches the last pose in time."""
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    last = float(order.times_s[-1])
    return length / last if last > 0.0 else default
