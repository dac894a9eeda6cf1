"""Facts about the rendered images, and about machines that cannot render."""

import ctypes
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)  # before mujoco, whose backend it chooses

from vla_ros.sim import egl
from vla_ros.sim.cameras import CameraRig, focal_length_px
from vla_ros.sim.metaworld.arm import MetaWorldRobot
from vla_ros.sim.metaworld.config import load_sim_config

CONFIG = load_sim_config(Path(__file__).parents[2] / "config" / "sim" / "metaworld_sawyer.yaml")
FRONT = "observation.images.front"


def centroid(mask: np.ndarray) -> np.ndarray:
    """Mean (row, column) of the pixels in a mask."""
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.egl
def test_images_show_puck_and_goal_upright_where_the_state_says_they_are() -> None:
    robot = MetaWorldRobot("push-v3", CONFIG, seed=1)
    rig = CameraRig(robot.model, CONFIG.cameras)
    try:
        for seed in (1, 2, 3):
            robot.reset(seed)
            images = rig.render(robot.snapshot())
            image = images[FRONT].astype(int)
            assert all(i.shape == (84, 84, 3) and i.dtype == np.uint8 for i in images.values())
            green = (image[..., 1] > 120) & (image[..., 0] < 90) & (image[..., 2] < 90)
            assert green.sum() >= 6, "the task's target is part of the picture"
            expected = _project(robot, robot.privileged_observation[36:39])
            np.testing.assert_allclose(centroid(green), expected, atol=1.5)
    finally:
        rig.close()


def _project(robot: MetaWorldRobot, point: np.ndarray) -> np.ndarray:
    """(row, column) of a point in the front image, by the pinhole model that CameraInfo publishes."""
    spec = CONFIG.cameras[FRONT]
    camera = robot.snapshot().camera(spec.camera)
    x, y, z = camera.xmat.reshape(3, 3).T @ (point - camera.xpos)
    focal = focal_length_px(robot.model, spec)
    return np.array([spec.height / 2 - focal * y / -z, spec.width / 2 + focal * x / -z]) - 0.5


@pytest.mark.egl
def test_a_snapshot_renders_like_the_state_it_was_taken_of_although_the_physics_goes_on() -> None:
    robot = MetaWorldRobot("push-v3", CONFIG, seed=1)
    rig = CameraRig(robot.model, CONFIG.cameras)
    try:
        snapshot = robot.snapshot()
        at_once = rig.render(snapshot)
        for _ in range(20):
            robot.step(np.array([0.2, 0.0, 0.0]), 1.0)
        later = rig.render(snapshot)
        moved = rig.render(robot.snapshot(snapshot))
    finally:
        rig.close()
    for key in at_once:
        np.testing.assert_array_equal(at_once[key], later[key])
        assert not np.array_equal(at_once[key], moved[key])


def test_the_focal_length_is_half_the_image_height_at_ninety_degrees() -> None:
    robot = MetaWorldRobot("push-v3", CONFIG)
    spec = CONFIG.cameras["observation.images.wrist"]
    assert math.isclose(focal_length_px(robot.model, spec), 42.0, rel_tol=1e-6)  # gripperPOV sees 90 degrees


def test_a_machine_without_egl_is_told_which_packages_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL

    def without_egl(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "libEGL.so.1":
            raise OSError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(ctypes, "CDLL", without_egl)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert egl.select_backend() == "disabled"
    assert os.environ["MUJOCO_GL"] == "disabled", "so that mujoco can be imported for physics alone"
    with pytest.raises(egl.RenderingError, match=r"libEGL\.so\.1 is missing; .*apt-get install libegl1"):
        egl.require_rendering()


def test_another_backend_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert egl.select_backend() == "osmesa"
