"""Facts about the frames that the simulated robot announces."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.tasks", exc_type=ImportError)
pytest.importorskip("rclpy")

from vla_ros.contract import load_contract
from vla_ros.nodes.sim.frames import static_transforms
from vla_ros.sim.config import load_sim_config
from vla_ros.sim.metaworld_robot import MetaWorldRobot

CONFIG = Path(__file__).parents[2] / "config"


def test_the_front_cameras_optical_axis_meets_its_target_and_the_wrist_camera_rides_on_the_hand() -> None:
    config = load_sim_config(CONFIG / "sim" / "metaworld_sawyer.yaml")
    robot = MetaWorldRobot("push-v3", config)
    contract = load_contract(CONFIG / "robots" / "metaworld_sawyer.yaml")
    frames = {t.child_frame_id: t for t in static_transforms(contract, config, robot)}

    assert frames["wrist_camera_optical_frame"].header.frame_id == "end_effector_link"
    assert frames["wrist_imu_link"].header.frame_id == "end_effector_link"
    assert frames["lidar_link"].header.frame_id == "base_link"
    front = frames["front_camera_optical_frame"]
    assert front.header.frame_id == "base_link"
    at, q = front.transform.translation, front.transform.rotation
    optical_axis = np.array([2 * (q.x * q.z + q.w * q.y), 2 * (q.y * q.z - q.w * q.x), 1 - 2 * (q.x**2 + q.y**2)])
    target = config.cameras["observation.images.front"].target
    assert target is not None
    towards = np.array(target) - np.array([at.x, at.y, at.z])
    np.testing.assert_allclose(optical_axis, towards / np.linalg.norm(towards), atol=1e-6)
