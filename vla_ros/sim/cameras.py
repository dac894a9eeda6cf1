"""Renders the simulated cameras off-screen.

Owns the OpenGL context, which belongs to the thread that made it: build, use and close a `CameraRig` in one
thread. Knows nothing of time or topics.

The task's target is part of the picture: MetaWorld draws it as a marker (a green sphere on push-v3) and the
rig renders it, because a policy that sees only pixels must see where the puck should go.
"""

import math
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.sim.config import CameraConfig
from vla_ros.sim.egl import require_rendering


def configure_cameras(model: Any, cameras: Mapping[str, CameraConfig], source: str = "simulation") -> None:
    """Aim and zoom the model's cameras as configured.

    Raises:
        ConfigError: A camera does not exist, or one that moves with the robot shall be aimed at a fixed point.
    """
    names = [model.cam(index).name for index in range(model.ncam)]
    for key, spec in cameras.items():
        if spec.camera not in names:
            raise ConfigError(
                f"{source}: cameras.{key}.camera '{spec.camera}' is not a camera of this model; "
                f"cameras are {', '.join(names)}.{nearest_name(spec.camera, names)}"
            )
        camera = model.cam(spec.camera)
        if spec.fovy_deg is not None:
            camera.fovy[0] = spec.fovy_deg
        if spec.target is None:
            continue
        if model.cam_bodyid[camera.id] != 0:
            raise ConfigError(
                f"{source}: cameras.{key}.target cannot aim '{spec.camera}', which moves with the robot; remove it"
            )
        camera.quat[:] = _look_at(camera.pos, np.asarray(spec.target))


def _look_at(position: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternion (w, x, y, z) of a MuJoCo camera (looks along −z, y up) that sees `target` with the world's z up."""
    backward = position - target
    backward = backward / np.linalg.norm(backward)
    right = np.cross((0.0, 0.0, 1.0), backward)
    right /= np.linalg.norm(right)
    rotation = np.stack((right, np.cross(backward, right), backward), axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    return quaternion


def focal_length_px(model: Any, spec: CameraConfig) -> float:
    """Focal length of a camera in pixels; MuJoCo's pixels are square, so it holds for both axes."""
    fovy = math.radians(float(model.cam(spec.camera).fovy[0]))
    return spec.height / 2.0 / math.tan(fovy / 2.0)


class CameraRig:
    """All cameras of one model.

    Args:
        model: Compiled MuJoCo model, its cameras already configured.
        cameras: Feature key → camera.

    Raises:
        RenderingError: The machine cannot render off-screen; names the packages to install.
    """

    def __init__(self, model: Any, cameras: Mapping[str, CameraConfig]) -> None:
        require_rendering()
        self._cameras = dict(cameras)
        self._renderers: dict[tuple[int, int], Any] = {}
        model.vis.quality.offsamples = 0  # with shadows and reflections off: 8 instead of 77 ms an image on a CPU
        for size in {(spec.height, spec.width) for spec in self._cameras.values()}:
            self._renderers[size] = self._renderer(model, size)

    @staticmethod
    def _renderer(model: Any, size: tuple[int, int]) -> Any:
        vis = model.vis.global_
        vis.offheight, vis.offwidth = max(vis.offheight, size[0]), max(vis.offwidth, size[1])
        renderer = mujoco.Renderer(model, *size)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        return renderer

    def render(self, data: Any) -> dict[str, NDArray[np.uint8]]:
        """Render every camera on one state.

        Args:
            data: `mujoco.MjData` that nobody changes meanwhile.

        Returns:
            Feature key → image, uint8 [h, w, 3] RGB, first row at the top.
        """
        images: dict[str, NDArray[np.uint8]] = {}
        for key, spec in self._cameras.items():
            renderer = self._renderers[(spec.height, spec.width)]
            renderer.update_scene(data, camera=spec.camera)
            images[key] = renderer.render()
        return images

    def close(self) -> None:
        """Free the OpenGL contexts; in the thread that made the rig."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
