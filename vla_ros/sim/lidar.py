"""A scanner fixed in the scene: rays cast against the visible geometry.

Owns the ray pattern and the frame of the points. No noise, no motion distortion: all rays leave at one instant.
"""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.sim.config import LidarConfig

_VISIBLE_GROUPS = np.array([1, 1, 1, 0, 0, 0], np.uint8)  # what the cameras see; groups 3 to 5 are collision hulls


class Lidar:
    """Casts the rays of one scanner.

    Args:
        config: Place and pattern.
    """

    def __init__(self, config: LidarConfig) -> None:
        self._config = config
        elevation, azimuth = np.meshgrid(np.radians(config.elevations_deg), _azimuths(config), indexing="ij")
        self.directions = np.stack(
            (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)), axis=-1
        ).reshape(-1, 3)
        """Unit vectors of the rays in the scanner's frame, float64 [N, 3]."""
        yaw = np.radians(config.yaw_deg)
        self.rotation = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        """Scanner frame → base frame, float64 [3, 3]."""
        self._origin = np.asarray(config.position, np.float64)
        self._rays = np.ascontiguousarray(self.directions @ self.rotation.T).ravel()

    def scan(self, model: Any, data: Any) -> NDArray[np.float32]:
        """Return the echoes within range, float32 [N, 3] in m, in the scanner's frame.

        Rays that meet nothing, or something out of range, give no point.
        """
        n_rays = len(self.directions)
        distances = np.empty(n_rays)
        geoms = np.empty(n_rays, np.int32)
        mujoco.mj_multiRay(
            model,
            data,
            self._origin,
            self._rays,
            _VISIBLE_GROUPS,
            1,
            -1,
            geoms,
            distances,
            n_rays,
            self._config.max_range_m,
        )
        within = (geoms >= 0) & (distances >= self._config.min_range_m) & (distances <= self._config.max_range_m)
        points = self.directions[within] * distances[within, None]
        return points.astype(np.float32)


def _azimuths(config: LidarConfig) -> NDArray[np.float64]:
    half = np.radians(config.horizontal_fov_deg) / 2.0
    full_circle = config.horizontal_fov_deg >= 360.0  # there the last ray would repeat the first
    return np.linspace(-half, half, config.azimuths, endpoint=not full_circle)
