"""Facts about the simulated arm, without ROS and without rendering."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)  # before mujoco, whose backend it chooses

from vla_ros.data_types import ConfigError
from vla_ros.sim.config import CameraConfig
from vla_ros.sim.metaworld.arm import GRIPPER_CLOSED, GRIPPER_OPEN, MetaWorldRobot
from vla_ros.sim.metaworld.config import SimConfig, load_sim_config
from vla_ros.sim.metaworld.tasks import TaskError, check_task, task_names

CONFIG = load_sim_config(Path(__file__).parents[3] / "config" / "sim" / "metaworld_sawyer.yaml")
LIDAR = "observation.points.lidar"
STILL = np.zeros(3)


@pytest.fixture(scope="module")
def robot() -> MetaWorldRobot:
    return MetaWorldRobot("push-v3", CONFIG)


def run(robot: MetaWorldRobot, velocity: list[float], gripper: float, n_steps: int) -> None:
    for _ in range(n_steps):
        robot.step(np.array(velocity), gripper)


def state(robot: MetaWorldRobot) -> np.ndarray:
    return np.concatenate(
        (robot.privileged_observation, *robot.joint_state(list(CONFIG.joints)), robot.imu().orientation)
    )


def test_a_seed_gives_the_same_episode_bit_for_bit_whatever_came_before(robot: MetaWorldRobot) -> None:
    runs = []
    for seed in (3, 4, 3):
        robot.reset(seed)
        run(robot, [0.1, 0.05, -0.1], GRIPPER_CLOSED, 8)
        runs.append(state(robot))
    np.testing.assert_array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], runs[1])


def test_seeds_spread_puck_and_goal_over_the_whole_start_distribution() -> None:
    robot = MetaWorldRobot("push-v3", dataclasses.replace(CONFIG, settle_s=0.0))
    starts = []
    for seed in range(16):
        robot.reset(seed)
        starts.append(np.append(robot.privileged_observation[4:6], robot.privileged_observation[36:38]))
    spread = np.ptp(starts, axis=0)
    assert len(np.unique(np.round(starts, 6), axis=0)) == 16
    assert np.all(spread > 0.7 * np.array([0.2, 0.1, 0.2, 0.1]))  # the task's reset space, m


def test_a_velocity_travels_its_distance_along_the_base_frames_axes(robot: MetaWorldRobot) -> None:
    robot.reset(0)
    before = robot.position
    run(robot, [0.1, -0.05, 0.0], GRIPPER_OPEN, 32)  # 0.4 s
    run(robot, [0.0, 0.0, 0.0], GRIPPER_OPEN, 32)
    np.testing.assert_allclose(robot.position - before, [0.04, -0.02, 0.0], atol=2e-3)
    np.testing.assert_allclose(robot.set_point, robot.position, atol=2e-3)


def test_the_twist_is_the_commanded_velocity_while_moving(robot: MetaWorldRobot) -> None:
    robot.reset(0)
    run(robot, [0.1, 0.0, 0.0], GRIPPER_OPEN, 40)
    np.testing.assert_allclose(robot.twist()[:3], [0.1, 0.0, 0.0], atol=0.03)


def test_the_gripper_opening_is_a_distance_that_closing_shrinks(robot: MetaWorldRobot) -> None:
    robot.reset(0)
    (opened,), _ = robot.joint_state(["gripper_opening"])
    robot.step(STILL, GRIPPER_CLOSED)
    run(robot, [0.0, 0.0, 0.0], GRIPPER_CLOSED, 20)
    (closing,), (rate,) = robot.joint_state(["gripper_opening"])
    assert opened == pytest.approx(0.1, abs=0.01)
    assert closing < opened
    assert rate < 0.0


def test_the_imu_at_rest_feels_gravity_upwards(robot: MetaWorldRobot) -> None:
    robot.reset(0)
    run(robot, [0.0, 0.0, 0.0], GRIPPER_OPEN, 80)
    sample = robot.imu()
    x, y, z, w = sample.orientation
    up_in_imu = np.array(
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    )  # last row of the rotation
    assert sample.linear_acceleration @ up_in_imu == pytest.approx(9.81, abs=0.1)
    np.testing.assert_allclose(sample.angular_velocity, 0.0, atol=0.05)


def test_lidar_points_on_the_table_lie_in_its_plane(robot: MetaWorldRobot) -> None:
    robot.reset(0)
    points = robot.lidar(LIDAR)
    assert points.dtype == np.float32
    heights = points[:, 2] + CONFIG.lidars[LIDAR].position[2]
    on_table = np.abs(heights) < 1e-4  # the table's top is z = 0 of the base frame
    assert 100 < on_table.sum() < 360
    assert heights.max() > 0.02  # walls, arm or puck stand on it


def test_lidar_echoes_out_of_range_are_no_points() -> None:
    lidar = dataclasses.replace(CONFIG.lidars[LIDAR], max_range_m=0.7)
    near = MetaWorldRobot("push-v3", dataclasses.replace(CONFIG, lidars={LIDAR: lidar}))
    points = near.lidar(LIDAR)
    assert 0 < len(points) < 360
    assert np.linalg.norm(points, axis=1).max() <= 0.7 + 1e-6


def test_an_episode_may_last_longer_than_metaworlds_own_500_steps(robot: MetaWorldRobot) -> None:
    robot.reset(0)
    robot._environment.curr_path_length = 499
    run(robot, [0.0, 0.0, 0.0], GRIPPER_OPEN, 3)
    assert not robot.success


def test_all_fifty_tasks_are_known_and_a_wrong_one_is_refused_with_the_nearest() -> None:
    assert len(task_names()) == 50
    with pytest.raises(TaskError, match=r"'psh-v3' is not a task of MetaWorld.*Did you mean 'push-v3'"):
        check_task("psh-v3")


@pytest.mark.slow
@pytest.mark.parametrize("task", task_names())
def test_every_task_runs_with_every_sensor(task: str) -> None:
    robot = MetaWorldRobot(task, CONFIG, seed=1)
    run(robot, [0.02, 0.0, 0.0], GRIPPER_CLOSED, 4)
    assert np.isfinite(state(robot)).all()
    assert np.isfinite(robot.imu().linear_acceleration).all()
    assert len(robot.lidar(LIDAR)) > 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (SimConfig(joints={"elbow": "right_j9"}), "joints.elbow 'right_j9' is not a joint of this model"),
        (SimConfig(cameras={"a": CameraConfig("corner9", 8, 8)}), "cameras.a.camera 'corner9' is not a camera"),
        (SimConfig(cameras={"a": CameraConfig("gripperPOV", 8, 8, target=(0, 0, 0))}), "moves with the robot"),
    ],
)
def test_a_source_that_the_model_lacks_is_refused(config: SimConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        MetaWorldRobot("push-v3", config)
