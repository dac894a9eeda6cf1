"""A room with cylinders and boxes; by day with painted zones that no LiDAR sees, by night without any light."""

from typing import Any, Literal

import numpy as np

from vla_ros.sim.mobile_base.model import RADIUS, floor
from vla_ros.sim.mobile_base.planner import CostField
from vla_ros.sim.mobile_base.pure_pursuit import pursue
from vla_ros.sim.mobile_base.worlds.world import BELOW, Situation, Vector, World, mocap_body, put, wall

HALF_SIDE = 4.0
"""Of the room, m."""
SPEED = 0.6
"""Of the expert, m/s."""
GOAL_RADIUS = 0.35
TIME_LIMIT_S = 25.0
CYLINDERS, BOXES, ZONES = 6, 4, 3
CYLINDER_RADIUS, BOX_HALF_SIDE, ZONE_RADIUS = 0.25, 0.25, 0.45
_RESOLUTION = 0.1
_MARGIN = 0.1  # that the expert keeps at least, m


class Obstacles(World):
    """See the module.

    Args:
        light: ``day`` or ``night``; None draws one for each episode.
    """

    def __init__(self, light: Literal["day", "night"] | None) -> None:
        self._light = light
        self._field: CostField | None = None

    def elements(self) -> str:
        """As `World.elements`."""
        parts = [floor(HALF_SIDE + 1.0), *room(HALF_SIDE)]
        for index in range(CYLINDERS):
            color = f"{0.35 + 0.05 * index} .45 .55 1"
            parts.append(mocap_body(f"cylinder{index}", _cylinder(CYLINDER_RADIUS, color)))
        for index in range(BOXES):
            side, color = BOX_HALF_SIDE, f".6 {0.35 + 0.06 * index} .3 1"
            geom = f'<geom type="box" size="{side} {side} .4" rgba="{color}"/>'
            parts.append(mocap_body(f"box{index}", geom))
        for index in range(ZONES):
            geom = (
                f'<geom type="cylinder" size="{ZONE_RADIUS} .002" rgba=".9 .1 .1 1" group="1" contype="0" '
                'conaffinity="0"/>'
            )
            parts.append(mocap_body(f"zone{index}", geom))
        return "".join(parts)

    def place(self, data: Any, rng: np.random.Generator) -> tuple[float, float, float]:
        """As `World.place`; drawn again until a way leads to the goal."""
        light = "night" if rng.random() < 0.5 else "day"
        self.is_dark = (self._light or light) == "night"
        zones = 0 if self.is_dark else ZONES
        while True:
            self.start = np.array((-3.3, rng.uniform(-2.5, 2.5)))
            self.goal = np.array((3.3, rng.uniform(-2.5, 2.5)))
            self._radii = np.array(
                [CYLINDER_RADIUS] * CYLINDERS + [BOX_HALF_SIDE * 1.3] * BOXES + [ZONE_RADIUS] * zones
            )
            self._centres = scatter(rng, self.start, self.goal, self._radii)
            self._field = self._costs()
            if self._field.is_reachable_from(self.start):
                break
        names = [f"cylinder{i}" for i in range(CYLINDERS)] + [f"box{i}" for i in range(BOXES)]
        for name, centre in zip(names, self._centres, strict=False):
            put(data.model, data, name, (*centre, 0.4))
        for index in range(ZONES):
            there = index < zones
            centre = self._centres[len(names) + index] if there else (0.0, 0.0)
            put(data.model, data, f"zone{index}", (*centre, 0.003 if there else BELOW))
        towards = self.goal - self.start
        return self.start[0], self.start[1], float(np.arctan2(towards[1], towards[0]) + rng.normal(0.0, 0.3))

    def is_done(self, situation: Situation) -> bool:
        """Whether the goal is within 0.35 m."""
        return bool(np.hypot(*(situation.pose[:2] - self.goal)) < GOAL_RADIUS)

    def failure(self, situation: Situation) -> str:
        """A touch, a third of the footprint over paint, or the time."""
        if situation.touched:
            return "touched an obstacle"
        solid = CYLINDERS + BOXES
        paint = np.hypot(*(self._centres[solid:] - situation.pose[:2]).T) - self._radii[solid:] - RADIUS
        if len(paint) and paint.min() < -0.1:  # more than a third of the footprint
            return "crossed a painted zone"
        return "out of time" if situation.time_s > TIME_LIMIT_S else ""

    def expert(self, situation: Situation) -> tuple[float, float]:
        """Follow the cheapest way around everything."""
        return pursue(self.path(situation), situation.pose, SPEED, stops_at_end=False)

    def path(self, situation: Situation) -> Vector:
        """As `World.path`."""
        if self._field is None:
            raise RuntimeError("no episode has begun")
        return self._field.path(situation.pose[:2], self.goal)

    def _costs(self) -> CostField:
        """Nearness costs, and nothing is nearer than the base is wide."""
        cells = round(2.0 * HALF_SIDE / _RESOLUTION)
        middle = (np.arange(cells) + 0.5) * _RESOLUTION - HALF_SIDE
        x, y = np.meshgrid(middle, middle, indexing="ij")
        clear = HALF_SIDE - 0.05 - np.maximum(np.abs(x), np.abs(y))
        for (cx, cy), radius in zip(self._centres, self._radii, strict=True):
            clear = np.minimum(clear, np.hypot(x - cx, y - cy) - radius)
        cost = np.where(clear > RADIUS + _MARGIN, 1.0 + 4.0 * np.exp(-(clear - 0.3) / 0.15), np.inf)
        return CostField(cost, -HALF_SIDE, _RESOLUTION, self.goal)


def room(half_side: float) -> list[str]:
    """Return the MJCF of the four walls of a square room."""
    return [
        wall(half_side, 0.0, 0.05, half_side),
        wall(-half_side, 0.0, 0.05, half_side),
        wall(0.0, half_side, half_side, 0.05),
        wall(0.0, -half_side, half_side, 0.05),
    ]


def scatter(rng: np.random.Generator, start: Vector, goal: Vector, radii: Vector) -> Vector:
    """Return where things of these radii lie, apart from each other, half of them near the straight way, [N, 2]."""
    centres: list[Vector] = []
    for radius in radii:
        for _ in range(400):
            if rng.random() < 0.5:
                share = rng.uniform(0.15, 0.85)
                centre = start * (1.0 - share) + goal * share + rng.normal(0.0, 0.5, 2)
            else:
                centre = rng.uniform((-2.8, -3.3), (2.8, 3.3))
            ends = min(np.hypot(*(centre - start)), np.hypot(*(centre - goal)))
            apart = all(
                np.hypot(*(centre - other)) > radius + size + 0.15 for other, size in zip(centres, radii, strict=False)
            )
            if abs(centre[1]) < 3.5 and ends > radius + 0.6 and apart:
                break
        centres.append(centre)
    return np.array(centres)


def _cylinder(radius: float, color: str) -> str:
    return f'<geom type="cylinder" size="{radius} .4" rgba="{color}"/>'
