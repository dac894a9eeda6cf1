"""A straight track of six patches that look alike, three of them rough: fast on the smooth ones, slow on the rough."""

from typing import Any

import numpy as np

from vla_ros.sim.mobile_base.model import floor
from vla_ros.sim.mobile_base.pure_pursuit import pursue
from vla_ros.sim.mobile_base.worlds.world import BELOW, Situation, Vector, World, mocap_body, put

PATCHES, ROUGH, PATCH = 6, 3, 1.5
"""Patches, rough ones among them, length of one in m; the first begins at x = 1 m."""
FAST, SLOW = 1.1, 0.35
"""Of the expert on smooth and on rough ground, m/s."""
TIME_LIMIT_S = 21.5
MAX_DOSE = 14.5
"""Of vibration, m/s^1.75, as VDV of ISO 2631-1 without its frequency weighting."""
END = 1.0 + PATCHES * PATCH
_CLEATS, _CLEAT_RADIUS = 45, 0.02
_REACH = 0.2  # of the base ahead and behind its middle, m
_HALF_WIDTH = 0.6


class RoughPatches(World):
    """See the module. Cleats stand about 1 cm out of the ground; no sensor but the IMU tells."""

    def elements(self) -> str:
        """As `World.elements`."""
        geom = (
            f'<geom type="capsule" fromto="0 {-_HALF_WIDTH} 0 0 {_HALF_WIDTH} 0" size="{_CLEAT_RADIUS}" group="3" '
            'friction="1 .005 .0001"/>'
        )
        marks = "".join(_mark(1.0 + index * PATCH) for index in range(PATCHES + 1))
        return floor(16.0) + marks + "".join(mocap_body(f"cleat{index}", geom) for index in range(_CLEATS))

    def place(self, data: Any, rng: np.random.Generator) -> tuple[float, float, float]:
        """As `World.place`."""
        self._rough = np.isin(np.arange(PATCHES), rng.permutation(PATCHES)[:ROUGH])
        self.goal, self._dose = np.array((END + 0.3, 0.0)), 0.0
        places: list[tuple[float, float]] = []
        for patch in np.flatnonzero(self._rough):
            at, last = 1.0 + patch * PATCH + 0.05, 1.0 + (patch + 1) * PATCH - 0.05
            while at < last:
                places.append((at, -0.010 + rng.uniform(-0.002, 0.002)))
                at += rng.uniform(0.10, 0.18)
        for index in range(_CLEATS):
            x, z = places[index] if index < len(places) else (0.0, BELOW)
            put(data.model, data, f"cleat{index}", (x, 0.0, z))
        return 0.0, rng.uniform(-0.1, 0.1), rng.uniform(-0.05, 0.05)

    def advance(self, data: Any, situation: Situation) -> None:  # noqa: ARG002 (nothing moves)
        """Add up what the base was shaken."""
        shock = min(abs(situation.specific_force[2] - 9.81), 60.0)
        if situation.time_s > 0.5:
            self._dose += shock**4 * 0.01

    @property
    def dose(self) -> float:
        """Vibration dose so far, m/s^1.75."""
        return float(self._dose**0.25)

    def is_done(self, situation: Situation) -> bool:
        """Whether the track is behind, the dose within its limit."""
        return bool(situation.pose[0] > END and self.dose <= MAX_DOSE)

    def failure(self, situation: Situation) -> str:
        """Too much vibration, off the track, or the time."""
        if self.dose > MAX_DOSE:
            return f"vibration dose above {MAX_DOSE:g}"
        if abs(situation.pose[1]) > _HALF_WIDTH - 0.2:
            return "left the track"
        return "out of time" if situation.time_s > TIME_LIMIT_S else ""

    def expert(self, situation: Situation) -> tuple[float, float]:
        """Keep to the middle, slow where it is rough."""
        speed = SLOW if self.is_rough(situation.pose[0]) else FAST
        return pursue(self.path(situation), situation.pose, speed, lookahead_m=0.8, stops_at_end=False)

    def is_rough(self, x: float) -> bool:
        """Whether any wheel or caster is on a rough patch, or soon will be."""
        for at in (x - _REACH, x, x + _REACH + 0.25):
            index = int((at - 1.0) // PATCH)
            if 0 <= index < PATCHES and self._rough[index]:
                return True
        return False

    def path(self, situation: Situation) -> Vector:
        """As `World.path`."""
        return np.array((situation.pose[:2], (situation.pose[0] + 0.8, 0.0), (END + 3.0, 0.0)))


def _mark(x: float) -> str:
    return (
        f'<geom type="box" pos="{x} 0 .001" size=".02 {_HALF_WIDTH} .001" rgba=".9 .9 .3 1" group="1" contype="0" '
        'conaffinity="0"/>'
    )
