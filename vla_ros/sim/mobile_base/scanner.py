"""A LiDAR of one or several rings on the base: ranges with noise and lost echoes. All rays leave at one instant."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.sim.mobile_base import ray_casting
from vla_ros.sim.mobile_base.base import DifferentialDrive
from vla_ros.sim.mobile_base.config import Scanner


@dataclass(frozen=True)
class Scan:
    """What a LiDAR measured.

    Attributes:
        ranges: m, float32 [rings, azimuths]; infinite where no echo came back (REP-117).
        angles: Azimuths in rad, float64 [azimuths], ascending.
        points: x, y, z in m in the LiDAR's frame, float32 [rings, azimuths, 3]; NaN without an echo.
    """

    ranges: NDArray[np.float32]
    angles: NDArray[np.float64]
    points: NDArray[np.float32]


class RingScanner:
    """Casts the rays of one LiDAR.

    Args:
        config: Place and pattern.
    """

    def __init__(self, config: Scanner) -> None:
        self._config = config
        self._angles = ray_casting.azimuths(config.azimuths, float(np.radians(config.horizontal_fov_deg)))
        elevations = np.radians(np.asarray(config.elevations_deg, np.float64))
        self._directions = ray_casting.directions(self._angles, elevations)
        self._yaw = float(np.radians(config.yaw_deg))

    def scan(self, base: DifferentialDrive, noise: np.random.Generator) -> Scan:
        """Measure from where the base is."""
        config, shape = self._config, self._directions.shape[:2]
        origin, axes = base.place(config.position, self._yaw)
        rays = self._directions.reshape(-1, 3)
        distances, _ = ray_casting.cast(base.model, base.data, origin, rays @ axes.T, config.max_range_m)
        distances = distances + noise.normal(0.0, config.noise_m, len(rays))
        lost = noise.random(len(rays)) < config.dropout
        lost |= (distances < config.min_range_m) | (distances > config.max_range_m)
        distances[lost] = np.inf
        with np.errstate(invalid="ignore"):
            points = np.where(lost[:, None], np.nan, rays * distances[:, None])
        return Scan(
            distances.reshape(shape).astype(np.float32),
            self._angles,
            points.reshape(*shape, 3).astype(np.float32),
        )
