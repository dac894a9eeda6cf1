"""Facts about the frames that the simulated arm announces."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)

from vla_ros.contract import load_contract
from vla_ros.sim.metaworld.arm import MetaWorldRobot
from vla_ros.sim.metaworld.config import load_sim_config
from vla_ros.sim.metaworld.frames import frames_of

CONFIG = Path(__file__).parents[3] / "config"


def test_the_front_cameras_optical_axis_meets_its_target_and_the_wrist_camera_rides_on_the_hand() -> None:
    config = load_sim_config(CONFIG / "sim" / "metaworld_sawyer.yaml")
    robot = MetaWorldRobot("push-v3", config)
    contract = load_contract(CONFIG / "robots" / "metaworld_sawyer.yaml")
    frames = {frame.child: frame for frame in frames_of(contract, config, robot)}

    assert frames["wrist_camera_optical_frame"].parent == "end_effector_link"
    assert frames["wrist_imu_link"].parent == "end_effector_link"
    assert frames["lidar_link"].parent == "base_link"
    hand = frames["end_effector_link"]
    assert (hand.parent, hand.is_static) == ("base_link", False)
    np.testing.assert_allclose(hand.position, robot.position)
    front = frames["front_camera_optical_frame"]
    assert (front.parent, front.is_static) == ("base_link", True)
    x, y, z, w = front.rotation
    optical_axis = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x**2 + y**2)])
    target = config.cameras["observation.images.front"].target
    assert target is not None
    towards = np.array(target) - front.position
    np.testing.assert_allclose(optical_axis, towards / np.linalg.norm(towards), atol=1e-6)
