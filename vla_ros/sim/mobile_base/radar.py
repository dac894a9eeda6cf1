"""A radar on the base: ray casts give range, bearing, radial velocity and cross-section of what reflects.

The simplest model with the field's quantities: one echo for each direction, power by the radar equation (σ / r⁴), speed
by the projection of the relative velocity on the ray. No multipath, no side lobes, no ambiguity but the map's edges.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.sim.mobile_base import ray_casting
from vla_ros.sim.mobile_base.base import DifferentialDrive
from vla_ros.sim.mobile_base.config import Radar
from vla_ros.sim.mobile_base.worlds.world import World

FIELDS = ("x", "y", "vx", "vy", "rcs")
"""Of a target: m, m/s, dB relative to a square metre; in the radar's frame, the velocity relative to the radar."""

_RCS_DB = {mujoco.mjtGeom.mjGEOM_CYLINDER: 0.0, mujoco.mjtGeom.mjGEOM_BOX: 5.0, mujoco.mjtGeom.mjGEOM_CAPSULE: -10.0}
_MOVER_RCS_DB = 10.0
_FLOOR_DB = -60.0  # noise of the map
_SPREAD_BINS = 0.7  # how far a target's power spreads over the map


@dataclass(frozen=True)
class Echoes:
    """What reflects: distance in m, bearing in rad, relative radial velocity in m/s, cross-section in dB, each [N]."""

    distance: NDArray[np.float64]
    bearing: NDArray[np.float64]
    speed: NDArray[np.float64]
    rcs_db: NDArray[np.float64]


class RadarSensor:
    """Casts the rays of one radar.

    Args:
        config: Place and field of view.
    """

    def __init__(self, config: Radar) -> None:
        self._config = config
        self._bearings = ray_casting.azimuths(config.rays, float(np.radians(config.horizontal_fov_deg)))
        self._directions = ray_casting.directions(self._bearings, np.zeros(1))[0]
        self._yaw = float(np.radians(config.yaw_deg))

    def echoes(self, base: DifferentialDrive, world: World, noise: np.random.Generator) -> Echoes:
        """Measure from where the base is; nearer is a negative speed."""
        config = self._config
        origin, axes = base.place(config.position, self._yaw)
        rays = self._directions @ axes.T
        distances, geoms = ray_casting.cast(base.model, base.data, origin, rays, config.max_range_m)
        met = geoms >= 0
        distances, rays, bearings, bodies = (
            distances[met],
            rays[met],
            self._bearings[met],
            base.model.geom_bodyid[geoms[met]],
        )
        arm = origin - base.data.body("base").xpos
        own = base.velocity + np.array((-base.spin * arm[1], base.spin * arm[0], 0.0))
        relative = np.array([world.velocity_of(body) for body in bodies]).reshape(-1, 3) - own
        speeds = (relative * rays).sum(axis=1)
        moving = np.array([bool(world.velocity_of(body).any()) for body in bodies], bool)
        rcs = np.where(moving, _MOVER_RCS_DB, [_RCS_DB.get(kind, 0.0) for kind in base.model.geom_type[geoms[met]]])
        count = len(distances)
        return Echoes(
            np.maximum(distances + noise.normal(0.0, config.range_noise_m, count), 0.01),
            bearings,
            speeds + noise.normal(0.0, config.speed_noise_mps, count),
            rcs + noise.normal(0.0, config.rcs_noise_db, count),
        )

    def targets(self, echoes: Echoes) -> NDArray[np.float32]:
        """Return the targets, float32 [N, 5] of `FIELDS`; the velocity is the radial one, along the line of sight."""
        ahead, left = np.cos(echoes.bearing), np.sin(echoes.bearing)
        columns = (
            echoes.distance * ahead,
            echoes.distance * left,
            echoes.speed * ahead,
            echoes.speed * left,
            echoes.rcs_db,
        )
        return np.stack(columns, axis=1).astype(np.float32)

    def range_doppler(self, echoes: Echoes, noise: np.random.Generator) -> NDArray[np.float32]:
        """Return the map, float32 [range_bins, doppler_bins], power in dB above an arbitrary level.

        Row i is the ranges around ``(i + ½) max_range / range_bins``, column j the radial velocities around
        ``((j + ½) / doppler_bins · 2 − 1) max_speed``.
        """
        config = self._config
        row = echoes.distance / config.max_range_m * config.range_bins - 0.5
        column = (echoes.speed / config.max_speed_mps + 1.0) / 2.0 * config.doppler_bins - 0.5
        power = 10.0 ** (echoes.rcs_db / 10.0) / np.maximum(echoes.distance, 0.2) ** 4
        along_range = _spread(row, config.range_bins)
        along_speed = _spread(column, config.doppler_bins)
        received = np.einsum("n,nr,nd->rd", power, along_range, along_speed)
        floor = 10.0 ** (_FLOOR_DB / 10.0) * noise.exponential(1.0, received.shape)
        decibels: NDArray[np.float64] = 10.0 * np.log10(received + floor)
        return decibels.astype(np.float32)


def _spread(place: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return how a target's power is shared among bins, float64 [N, bins]."""
    return np.exp(-0.5 * ((np.arange(bins) - place[:, None]) / _SPREAD_BINS) ** 2)
