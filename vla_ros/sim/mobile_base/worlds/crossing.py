"""A room by night in which something crosses the way: where it is, a LiDAR sees; how fast it comes, a radar."""

from typing import Any

import numpy as np

from vla_ros.sim.mobile_base.model import RADIUS, floor
from vla_ros.sim.mobile_base.pure_pursuit import pursue
from vla_ros.sim.mobile_base.worlds.obstacles import GOAL_RADIUS, HALF_SIDE, room
from vla_ros.sim.mobile_base.worlds.world import Situation, Vector, World, mocap_body, put

MOVER_RADIUS = 0.3
SPEED = 0.6
TIME_LIMIT_S = 25.0
_MARGIN = 0.2  # that the expert keeps from the mover, m
_AHEAD_S, _STEP_S = 4.0, 0.1


class Crossing(World):
    """See the module. The mover goes to and fro across the room at a speed of its own."""

    is_dark = True

    def elements(self) -> str:
        """As `World.elements`."""
        geom = f'<geom type="cylinder" size="{MOVER_RADIUS} .4" rgba=".8 .8 .2 1"/>'
        return "".join([floor(HALF_SIDE + 1.0), *room(HALF_SIDE), mocap_body("mover", geom)])

    def place(self, data: Any, rng: np.random.Generator) -> tuple[float, float, float]:
        """As `World.place`."""
        self._body = data.model.body("mover").id
        start = np.array((-3.3, rng.uniform(-1.5, 1.5)))
        self.goal = np.array((3.3, rng.uniform(-1.5, 1.5)))
        self._x, self._speed = rng.uniform(-0.8, 0.8), rng.uniform(0.4, 0.9) * rng.choice((-1.0, 1.0))
        # In the middle of the way when a base that does not look out is there too, give or take
        meets_s = (self._x - start[0]) / SPEED + rng.uniform(-0.8, 0.8)
        share = (self._x - start[0]) / (self.goal[0] - start[0])
        self._phase = start[1] + share * (self.goal[1] - start[1]) - self._speed * meets_s
        self._now_s = 0.0
        put(data.model, data, "mover", (*self._mover(0.0), 0.4))
        towards = self.goal - start
        return start[0], start[1], float(np.arctan2(towards[1], towards[0]) + rng.normal(0.0, 0.2))

    def advance(self, data: Any, situation: Situation) -> None:
        """Move the mover."""
        self._now_s = situation.time_s
        put(data.model, data, "mover", (*self._mover(situation.time_s), 0.4))

    def velocity_of(self, body: int) -> Vector:
        """As `World.velocity_of`."""
        if body != self._body:
            return super().velocity_of(body)
        rate = (self._mover(self._now_s + 1e-4) - self._mover(self._now_s - 1e-4)) / 2e-4
        return np.append(rate, 0.0)

    def is_done(self, situation: Situation) -> bool:
        """Whether the goal is within 0.35 m."""
        return bool(np.hypot(*(situation.pose[:2] - self.goal)) < GOAL_RADIUS)

    def failure(self, situation: Situation) -> str:
        """A touch, or the time."""
        if situation.touched:
            return "touched something"
        return "out of time" if situation.time_s > TIME_LIMIT_S else ""

    def expert(self, situation: Situation) -> tuple[float, float]:
        """Go straight to the goal, as fast as the mover lets pass."""
        speed, turn = pursue(self.path(situation), situation.pose, SPEED, stops_at_end=False)
        return min(speed, self._safe_speed(situation)), turn

    def path(self, situation: Situation) -> Vector:
        """As `World.path`."""
        return np.stack((situation.pose[:2], self.goal))

    def _safe_speed(self, situation: Situation) -> float:
        """Return the highest speed at which the way ahead stays clear of the mover."""
        towards = self.goal - situation.pose[:2]
        ahead = towards / max(float(np.hypot(*towards)), 1e-9)
        times = np.arange(0.0, _AHEAD_S, _STEP_S)
        mover = np.array([self._mover(situation.time_s + float(t)) for t in times])
        best, best_gap = 0.0, -np.inf
        for speed in (SPEED, 0.45, 0.3, 0.15, 0.0):
            travelled = np.minimum(speed * times, float(np.hypot(*towards)))
            gap = float(np.hypot(*(situation.pose[:2] + travelled[:, None] * ahead - mover).T).min())
            if gap > RADIUS + MOVER_RADIUS + _MARGIN:
                return speed
            if gap > best_gap:
                best, best_gap = speed, gap
        return best

    def _mover(self, time_s: float) -> Vector:
        """Return where the mover is: to and fro between the walls."""
        reach = HALF_SIDE - 0.05 - MOVER_RADIUS - 0.02
        period = 4.0 * reach
        along = (self._phase + self._speed * time_s + reach) % period
        return np.array((self._x, (along if along < 2.0 * reach else period - along) - reach))
