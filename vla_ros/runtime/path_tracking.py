"""Follows a trajectory with a base on wheels: waypoints in a fixed frame and where the base is → a twist. No clock.

Pure pursuit (Coulter 1992, CMU-RI-TR-92-01): the base drives the arc through a point of the path that lies a lookahead
distance ahead. How fast follows from when that point is due, so a base that is late catches up.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command

Pose = NDArray[np.float64]
"""float64 [3]: x, y in m, yaw in rad."""


class PathTracker:
    """Turns the chunk in force into twists.

    Args:
        contract: Of a robot whose action is a trajectory.
    """

    def __init__(self, contract: RobotContract) -> None:
        limits, self._options = contract.action.limits, contract.action.tracker
        self._speed = math.inf if limits.max_speed is None else limits.max_speed
        self._turn_speed = math.inf if limits.max_angular_speed is None else limits.max_angular_speed

    def command(self, due: Command, chunk: ActionChunk, base: Pose) -> Command:
        """Return the command of a twist, linear x in m/s and angular z in rad/s, in place of the waypoint that is due.

        Args:
            due: What the executor says is due.
            chunk: The chunk that it is of.
            base: Where the base is, in the frame of the waypoints.
        """
        return replace(due, action=self.twist(chunk, due.effect_ns, base))

    def twist(self, chunk: ActionChunk, t_ns: int, base: Pose) -> NDArray[np.float64]:
        """Return linear x and angular z at a moment; see `command`. Waypoint k is to be reached at (k + 1) periods."""
        reached_s = [
            (chunk.observation_stamp_ns + (k + 1) * chunk.period_ns - t_ns) / NANOSECONDS
            for k in range(len(chunk.actions_HA))
        ]
        ahead = [k for k, left_s in enumerate(reached_s) if left_s > 0]
        if not ahead:
            return np.zeros(2)
        seen = [_in_base(chunk.actions_HA[k], base) for k in ahead]
        distances = [math.hypot(x, y) for x, y, _ in seen]
        chosen = next((i for i, d in enumerate(distances) if d >= self._options.lookahead_m), len(ahead) - 1)
        (x, y, turn), left_s = seen[chosen], reached_s[ahead[chosen]]
        distance = distances[chosen]
        if distance < 1e-3:  # it is there: only the yaw is left
            return np.array([0.0, self._limited_turn(turn / left_s)])
        aside = math.atan2(y, x)
        if abs(aside) > self._options.turn_in_place:
            return np.array([0.0, self._limited_turn(aside / left_s)])
        curvature = 2.0 * y / distance**2
        # the arc from here to there, tangent to where the base heads
        arc = distance if abs(aside) < 1e-6 else distance * aside / math.sin(aside)
        speed = min(arc / left_s, self._speed)
        if abs(curvature) * speed > self._turn_speed:  # slower, on the same arc
            speed = self._turn_speed / abs(curvature)
        return np.array([speed, speed * curvature])

    def bounded(self, chunk: ActionChunk, base: Pose) -> ActionChunk:
        """Return a chunk for whoever follows it alone: no step is longer than the base may drive or turn in it."""
        period_s, before = chunk.period_ns / NANOSECONDS, base
        actions = []
        for waypoint in chunk.actions_HA:
            step = np.array([*(waypoint[:2] - before[:2]), wrapped(waypoint[2] - before[2])])
            length = math.hypot(step[0], step[1])
            share = min(1.0, self._speed * period_s / length if length > 0 else 1.0)
            most = self._turn_speed * period_s
            before = before + np.array([step[0] * share, step[1] * share, float(np.clip(step[2], -most, most))])
            actions.append(before)
        bounded = np.stack(actions)
        bounded[:, 2] = [wrapped(yaw) for yaw in bounded[:, 2]]
        return replace(chunk, actions_HA=bounded)

    def _limited_turn(self, turn: float) -> float:
        return float(np.clip(turn, -self._turn_speed, self._turn_speed))


def wrapped(angle: float) -> float:
    """Return an angle in [−π, π)."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def _in_base(waypoint: Pose, base: Pose) -> tuple[float, float, float]:
    """Return a waypoint as the base sees it: x ahead, y to the left, and how far it is turned."""
    dx, dy = (waypoint[:2] - base[:2]).tolist()
    cosine, sine = math.cos(base[2]), math.sin(base[2])
    return cosine * dx + sine * dy, -sine * dx + cosine * dy, wrapped(float(waypoint[2] - base[2]))
