"""A corridor that ends in a junction; a sign, lit for the first second only, says which arm holds the goal."""

from typing import Any

import numpy as np

from vla_ros.sim.mobile_base.model import floor
from vla_ros.sim.mobile_base.pure_pursuit import pursue
from vla_ros.sim.mobile_base.worlds.world import BELOW, Situation, Vector, World, mocap_body, put, wall

LENGTH, WIDTH, ARM = 4.5, 1.2, 1.8
"""Of the corridor, of corridor and arms, and of an arm beyond the corridor, m."""
CUE_S = 1.0
"""For which the sign is lit; the expert stands still meanwhile, or its place would be the memory."""
SPEED = 0.6
TIME_LIMIT_S = 22.0
_SIGN = (2.4, 0.0, 0.85)
_COLORS = {"left": ".1 .2 .9 1", "right": ".95 .5 .05 1", "unlit": ".2 .2 .2 1"}


class TMaze(World):
    """See the module. Blue means left, orange right; the goal that the base is told of is the junction."""

    def elements(self) -> str:
        """As `World.elements`."""
        half, end = WIDTH / 2.0, LENGTH + WIDTH
        walls = [
            wall(LENGTH / 2.0, half + 0.05, LENGTH / 2.0, 0.05),
            wall(LENGTH / 2.0, -half - 0.05, LENGTH / 2.0, 0.05),
            wall(-0.75, 0.0, 0.05, half + 0.1),
            wall(-0.35, half + 0.05, 0.35, 0.05),
            wall(-0.35, -half - 0.05, 0.35, 0.05),
            wall(end + 0.05, 0.0, 0.05, ARM + half),
        ]
        for side in (1, -1):
            walls.append(wall(LENGTH - 0.05, side * (half + ARM / 2.0), 0.05, ARM / 2.0))
            walls.append(wall(LENGTH + half, side * (half + ARM + 0.05), half + 0.1, 0.05))
        return "".join([floor(8.0), *walls, *(_sign(name, color) for name, color in _COLORS.items())])

    def place(self, data: Any, rng: np.random.Generator) -> tuple[float, float, float]:
        """As `World.place`."""
        self._side = 1 if rng.random() < 0.5 else -1
        self.goal = np.array((LENGTH + WIDTH / 2.0, 0.0))
        self._show(data, is_lit=True)
        return rng.uniform(-0.1, 0.2), rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.1)

    def advance(self, data: Any, situation: Situation) -> None:
        """Put the light out."""
        self._show(data, is_lit=situation.time_s < CUE_S)

    def is_done(self, situation: Situation) -> bool:
        """Whether the end of the right arm is near."""
        return bool(situation.pose[1] * self._side > WIDTH / 2.0 + ARM - 0.6)

    def failure(self, situation: Situation) -> str:
        """A touch, the wrong arm, or the time."""
        if situation.touched:
            return "touched a wall"
        if -situation.pose[1] * self._side > WIDTH / 2.0 + ARM - 0.6:
            return "took the wrong arm"
        return "out of time" if situation.time_s > TIME_LIMIT_S else ""

    def expert(self, situation: Situation) -> tuple[float, float]:
        """Wait while the sign is lit, then go to the arm that it named."""
        if situation.time_s < CUE_S:
            return 0.0, 0.0
        return pursue(self.path(situation), situation.pose, SPEED, stops_at_end=False)

    def path(self, situation: Situation) -> Vector:
        """As `World.path`; the place itself while the sign is lit."""
        here = situation.pose[:2]
        if situation.time_s < CUE_S:
            return np.stack((here, here))
        junction, end = LENGTH + WIDTH / 2.0, (WIDTH / 2.0 + ARM) * self._side
        corners = [(junction - 0.45, 0.0), (junction - 0.12, 0.12 * self._side), (junction, 0.45 * self._side)]
        way = [(min(here[0] + 0.5, junction - 0.5), 0.0), *corners, (junction, end)]
        ahead = [
            point for point in way if point[0] > here[0] + 0.05 or point[1] * self._side > here[1] * self._side + 0.05
        ]
        return np.array([here, *(ahead or way[-1:])])

    def _show(self, data: Any, *, is_lit: bool) -> None:
        shown = ("left" if self._side > 0 else "right") if is_lit else "unlit"
        for name in _COLORS:
            x, y, z = _SIGN
            put(data.model, data, f"sign_{name}", (x, y, z if name == shown else BELOW))


def _sign(name: str, color: str) -> str:
    geom = f'<geom type="box" size=".02 .5 .15" rgba="{color}" group="1" contype="0" conaffinity="0"/>'
    return mocap_body(f"sign_{name}", geom)
