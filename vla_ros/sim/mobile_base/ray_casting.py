"""Rays cast from the base against the primitives that LiDARs and radars see. No noise: that is the sensors'."""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_SEEN_GROUPS = np.array([1, 0, 0, 0, 0, 0], np.uint8)


def directions(azimuths: Vector, elevations: Vector) -> Vector:
    """Return unit vectors, float64 [E, A, 3], of every azimuth at every elevation, rad; x is ahead, z up."""
    elevation, azimuth = np.meshgrid(elevations, azimuths, indexing="ij")
    level = np.cos(elevation)
    rays: Vector = np.stack((level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)), axis=-1)
    return rays


def azimuths(count: int, fov_rad: float) -> Vector:
    """Return the azimuths of a ring, rad, from right to left; a full circle does not repeat its first."""
    full_circle = fov_rad >= 2.0 * np.pi - 1e-9
    return np.linspace(-fov_rad / 2.0, fov_rad / 2.0, count, endpoint=not full_circle, dtype=np.float64)


def cast(model: Any, data: Any, origin: Vector, rays: Vector, reach_m: float) -> tuple[Vector, NDArray[np.int32]]:
    """Return how far each ray goes, and what it meets.

    Args:
        model: Of the world.
        data: Its state, kinematics computed.
        origin: Of all rays in the world, m [3].
        rays: Unit vectors in the world, float64 [N, 3].
        reach_m: Beyond it nothing is met.

    Returns:
        Distances in m, float64 [N], infinite where nothing is met, and ids of geoms, int32 [N], −1 there.
    """
    count = len(rays)
    distances, geoms = np.empty(count), np.empty(count, np.int32)
    flat = np.ascontiguousarray(rays, np.float64).ravel()
    mujoco.mj_multiRay(model, data, np.asarray(origin), flat, _SEEN_GROUPS, 1, -1, geoms, distances, count, reach_m)
    missed = (geoms < 0) | (distances > reach_m)
    distances[missed], geoms[missed] = np.inf, -1
    return distances, geoms
