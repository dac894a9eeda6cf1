"""Facts about the simulated base: each sensor against what can be computed by hand."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.egl")
pytest.importorskip("mujoco")

from vla_ros.contract import InputSpec, RobotContract, load_contract
from vla_ros.data_types import ConfigError
from vla_ros.messages.decoders import decode_input
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.sim.mobile_base.base import STEP_S, DifferentialDrive
from vla_ros.sim.mobile_base.config import Inertial, MobileBaseConfig, Odometer, Scanner, load_base_config
from vla_ros.sim.mobile_base.model import build_model, floor
from vla_ros.sim.mobile_base.robot import MobileBase
from vla_ros.sim.mobile_base.scanner import RingScanner
from vla_ros.sim.mobile_base.worlds import WORLDS, Situation, World, make_world
from vla_ros.sim.mobile_base.worlds.world import mocap_body, put, wall
from vla_ros.sim.robot import Robot

CONFIG_FOLDER = Path(__file__).parents[3] / "config"
CONTRACT = load_contract(CONFIG_FOLDER / "robots" / "mobile_base.yaml")
CONFIG = load_base_config(CONFIG_FOLDER / "sim" / "mobile_base.yaml")
BLIND = dataclasses.replace(CONFIG, cameras={})
EXACT = dataclasses.replace(
    BLIND,
    odometry=Odometer(scale_error=0.0, speed_noise=0.0, turn_noise=0.0),
    imu=Inertial(acceleration_noise=0.0, rate_noise=0.0),
    scanners={key: dataclasses.replace(spec, noise_m=0.0, dropout=0.0) for key, spec in CONFIG.scanners.items()},
    radars={
        key: dataclasses.replace(spec, range_noise_m=0.0, speed_noise_mps=0.0, rcs_noise_db=0.0)
        for key, spec in CONFIG.radars.items()
    },
)
PERIOD_NS = 100_000_000
SCAN, POINTS, RADAR = "observation.scan.front", "observation.points.top", "observation.radar.front"


def drive(config: MobileBaseConfig = EXACT, world: str = "") -> DifferentialDrive:
    base = DifferentialDrive(build_model(config, floor(20.0) + world), config)
    base.reset(0.0, 0.0, 0.3, np.random.default_rng(0))
    return base


def run(base: DifferentialDrive, speed: float, turn: float, seconds: float) -> None:
    base.want(speed, turn)
    for _ in range(round(seconds / STEP_S)):
        base.step()


def spec_of(key: str, ending: str = "", contract: RobotContract = CONTRACT) -> InputSpec:
    return next(spec for spec in contract.inputs if spec.key == key and spec.type.endswith(ending))


def sensed(robot: MobileBase, spec: InputSpec) -> np.ndarray:
    """What a policy sees: serialised, deserialised and decoded."""
    message = deserialize(serialize(robot.message(spec, 5 * PERIOD_NS), spec.type), spec.type)
    return np.asarray(decode_input(spec, message))


def test_it_is_a_robot_and_each_input_of_its_contract_has_a_source() -> None:
    robot = MobileBase(CONTRACT, BLIND, make_world("t-maze"))
    assert isinstance(robot, Robot)
    for spec in CONTRACT.inputs:
        if not spec.key.startswith("observation.images."):
            robot.check_input(spec)
            assert np.isfinite(sensed(robot, spec)).any()


def test_odometry_without_noise_integrates_to_the_true_pose() -> None:
    base = drive()
    x, y, yaw = base.pose
    travelled = 0.0
    for speed, turn, seconds in ((0.6, 0.5, 3.0), (0.4, -1.0, 3.0), (0.0, 1.5, 1.0), (0.8, 0.0, 3.0), (0.0, 0.0, 1.0)):
        run(base, speed, turn, seconds)
        travelled += speed * seconds
    dx, dy, turned = base.odometry
    believed = x + dx * math.cos(yaw) - dy * math.sin(yaw), y + dx * math.sin(yaw) + dy * math.cos(yaw)
    assert travelled > 5.0
    np.testing.assert_allclose(base.pose[:2], believed, atol=0.01 * travelled)  # the wheels slip a little
    assert math.remainder(base.pose[2] - yaw - turned, 2 * math.pi) == pytest.approx(0.0, abs=0.02)


def test_a_wrong_scale_makes_odometry_drift_with_the_distance() -> None:
    base = drive(dataclasses.replace(EXACT, odometry=Odometer(0.1, 0.0, 0.0)))
    errors = []
    for _ in range(2):
        run(base, 0.6, 0.0, 4.0)
        errors.append(abs(np.hypot(*base.odometry[:2]) - np.hypot(*base.pose[:2])))
    assert errors[0] > 0.02
    assert errors[1] > 1.6 * errors[0]


def test_the_drive_accelerates_no_faster_than_it_may_and_keeps_its_limits() -> None:
    base = drive()
    run(base, 9.0, 0.0, 0.4)
    assert np.hypot(*base.velocity[:2]) <= 0.4 * CONFIG.drive.max_acceleration + 0.02
    run(base, 9.0, 0.0, 3.0)
    assert np.hypot(*base.velocity[:2]) == pytest.approx(CONFIG.drive.max_speed, abs=0.03)
    run(base, 0.0, 9.0, 3.0)
    assert base.spin == pytest.approx(CONFIG.drive.max_turn, abs=0.05)


def test_a_motor_without_torque_moves_a_heavy_base_slowly() -> None:
    weak = dataclasses.replace(EXACT, drive=dataclasses.replace(EXACT.drive, max_torque=0.2))
    slow, fast = drive(weak), drive()
    for base in (slow, fast):
        run(base, 0.6, 0.0, 1.0)
    assert slow.velocity[0] < 0.6 * fast.velocity[0]


def test_the_imu_at_rest_feels_gravity_upwards_and_in_a_turn_its_rate() -> None:
    base = drive()
    run(base, 0.0, 0.0, 0.5)
    _, rate, force = base.imu()
    np.testing.assert_allclose(force, [0.0, 0.0, 9.81], atol=0.01)
    np.testing.assert_allclose(rate, 0.0, atol=0.005)
    run(base, 0.5, 1.0, 2.0)
    _, rate, force = base.imu()
    assert rate[2] == pytest.approx(1.0, abs=0.03)
    assert force[1] == pytest.approx(0.5 * 1.0, abs=0.05)  # towards the middle of the circle: v ω


def test_the_scan_of_a_wall_is_what_geometry_says() -> None:
    base = drive(world=wall(2.05, 0.0, 0.05, 5.0))  # its face is x = 2
    config = Scanner(
        (0.1, 0.0, 0.25), azimuths=3, horizontal_fov_deg=90.0, yaw_deg=math.degrees(-0.3), noise_m=0.0, dropout=0.0
    )
    scan = RingScanner(config).scan(base, np.random.default_rng(0))
    at = 0.1 * math.cos(0.3)  # the scanner is 0.1 m ahead on a base turned by 0.3, and looks along x itself
    np.testing.assert_allclose(scan.angles, np.radians([-45.0, 0.0, 45.0]))
    np.testing.assert_allclose(scan.ranges[0], (2.0 - at) * np.array([math.sqrt(2), 1.0, math.sqrt(2)]), rtol=1e-3)
    np.testing.assert_allclose(scan.points[0, :, 0], 2.0 - at, rtol=1e-3)


def test_a_ring_that_looks_down_meets_the_ground_where_it_should_and_up_nothing() -> None:
    base = drive()
    config = Scanner((0.0, 0.0, 0.5), azimuths=8, elevations_deg=(-30.0, 10.0), noise_m=0.0, dropout=0.0)
    scan = RingScanner(config).scan(base, np.random.default_rng(0))
    np.testing.assert_allclose(scan.ranges[0], 0.5 / math.sin(math.radians(30.0)), rtol=2e-3)
    np.testing.assert_allclose(scan.points[0, :, 2], -0.5, atol=2e-3)
    assert np.isinf(scan.ranges[1]).all()
    assert np.isnan(scan.points[1]).all()


def test_lost_echoes_are_infinite_in_the_scan_and_no_points() -> None:
    config = dataclasses.replace(
        EXACT, scanners={key: dataclasses.replace(spec, dropout=0.5) for key, spec in EXACT.scanners.items()}
    )
    robot = MobileBase(CONTRACT, config, make_world("t-maze"), 1)
    message = robot.message(spec_of(SCAN), 0)
    lost = np.isinf(message.ranges)
    assert 0.35 < lost.mean() < 0.65
    points = sensed(robot, spec_of(SCAN))
    assert np.isfinite(points).all(axis=1).sum() == (~lost).sum()


class Mover(World):
    """A cylinder ahead that comes nearer at a speed of its own."""

    task, goal, velocity = "mover", np.zeros(2), np.array([-0.7, 0.4, 0.0])

    def elements(self) -> str:
        return floor(20.0) + mocap_body("mover", '<geom type="cylinder" size=".3 .4"/>')

    def place(self, data: Any, rng: np.random.Generator) -> tuple[float, float, float]:
        self.body = data.model.body("mover").id
        put(data.model, data, "mover", (3.0, 0.0, 0.4))
        return 0.0, 0.0, 0.0

    def velocity_of(self, body: int) -> np.ndarray:
        return self.velocity if body == self.body else np.zeros(3)

    def is_done(self, situation: Situation) -> bool:
        return False

    def failure(self, situation: Situation) -> str:
        return ""


def test_the_radar_measures_the_radial_velocity_of_a_known_mover_less_the_bases_own() -> None:
    robot = MobileBase(CONTRACT, EXACT, Mover())
    for _ in range(150):
        robot.command(np.array([0.5, 0.0]), PERIOD_NS)
        robot.step()
    targets = sensed(robot, spec_of(RADAR))
    targets = targets[np.isfinite(targets).all(axis=1)]
    assert len(targets) >= 3
    own = robot.base.velocity[0]
    for x, y, vx, vy, _ in targets:
        distance = math.hypot(x, y)
        radial = ((-0.7 - own) * x + 0.4 * y) / distance
        np.testing.assert_allclose([vx, vy], [radial * x / distance, radial * y / distance], atol=0.02)
    ahead = targets[np.argmin(np.abs(targets[:, 1]))]
    assert ahead[0] == pytest.approx(3.0 - 0.3 - robot.base.pose[0] - 0.2, abs=0.01)


def test_the_map_has_its_peak_in_the_bin_of_the_movers_range_and_velocity() -> None:
    robot = MobileBase(CONTRACT, EXACT, Mover())
    spec, radar = spec_of("observation.radar.front_map"), CONFIG.radars[RADAR]
    values = sensed(robot, spec).reshape(radar.range_bins, radar.doppler_bins)
    row, column = np.unravel_index(np.argmax(values), values.shape)
    assert (row + 0.5) * radar.max_range_m / radar.range_bins == pytest.approx(2.5, abs=0.32)
    speed = ((column + 0.5) / radar.doppler_bins * 2.0 - 1.0) * radar.max_speed_mps
    assert speed == pytest.approx(-0.7, abs=0.16)


def test_the_goal_is_where_the_base_sees_it() -> None:
    robot = MobileBase(CONTRACT, EXACT, make_world("t-maze"), 3)
    ahead, left = sensed(robot, spec_of("observation.state", "/PointStamped"))
    x, y, yaw = robot.base.pose
    seen = x + ahead * math.cos(yaw) - left * math.sin(yaw), y + ahead * math.sin(yaw) + left * math.cos(yaw)
    np.testing.assert_allclose(seen, robot.world.goal, atol=1e-5)


def test_the_tree_of_frames_is_the_contracts() -> None:
    robot = MobileBase(CONTRACT, CONFIG, make_world("t-maze"))
    frames = {frame.child: frame for frame in robot.frames()}
    named = {spec.frame for spec in CONTRACT.inputs if spec.frame not in (None, "odom", "base_link")}
    assert set(frames) == named | {"base_link"}
    assert frames["base_link"].parent == "odom"
    assert not frames["base_link"].is_static
    assert all(frames[name].parent == "base_link" and frames[name].is_static for name in named)
    robot.close()


@pytest.mark.parametrize("task", WORLDS)
def test_a_seed_gives_the_same_episode_whatever_came_before(task: str) -> None:
    robot = MobileBase(CONTRACT, BLIND, make_world(task))
    sightless = [spec for spec in CONTRACT.inputs if not spec.key.startswith("observation.images.")]

    def episode(seed: int) -> list[bytes]:
        robot.reset(seed)
        decide, seen = robot.demonstrator("expert"), []
        for _ in range(4):
            robot.command(decide(), PERIOD_NS)
            for _ in range(10):
                robot.step()
            seen += [serialize(robot.message(spec, 0), spec.type) for spec in sightless]
        return seen

    first = episode(3)
    assert episode(4) != first
    assert episode(3) == first


def test_a_task_and_an_input_that_nobody_has_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'tmaze' is not a task of the mobile base: .*Did you mean 't-maze'\?"):
        make_world("tmaze")
    robot = MobileBase(CONTRACT, BLIND, make_world(""))
    other = dataclasses.replace(spec_of(SCAN), key="observation.scan.rear")
    with pytest.raises(ConfigError, match=r"no source for 'observation\.scan\.rear' \(LaserScan\)"):
        robot.check_input(other)
