"""A base keeps clear of what its scan shows, on the arc that it drives, and may always leave."""

import math
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import Command, ContractError
from vla_ros.safety import Measured, SafetyFilter
from vla_ros.safety.clearance import free_distance, in_base_frame

PERIOD_S = 0.1
CLEARANCE = {"key": "observation.scan.lidar", "radius": 0.25, "margin": 0.1, "deceleration": 1.0}


def make_contract(names: tuple[str, ...] = ("v", "w"), **clearance: Any) -> RobotContract:
    scan = {
        "key": "observation.scan.lidar", "topic": "/scan", "type": "sensor_msgs/msg/LaserScan", "frame": "laser",
        "points": {"count": 90, "fields": ["x", "y"]}, "max_age_s": 0.5,
    }  # fmt: skip
    action = {
        "representation": "planar_twist",
        "names": list(names),
        "units": ["1"] * len(names),
        "record": {"topic": "/r", "type": "geometry_msgs/msg/TwistStamped", "max_age_s": 1.0},
        "sinks": [{"topic": "/s", "type": "geometry_msgs/msg/Twist"}],
        "limits": {"max_speed": 1.5, "max_acceleration": 2.0, "clearance": {**CLEARANCE, **clearance}},
    }
    return parse_contract({"robot_type": "base", "fps": 10, "inputs": [scan], "action": action}, "base.yaml")


def scan_of(walls: np.ndarray[Any, Any], pose: tuple[float, float, float]) -> Measured:
    """Return points of the world as a LiDAR at the base's centre sees them, with a row that is no point."""
    x, y, yaw = pose
    cosine, sine = math.cos(yaw), math.sin(yaw)
    seen = (walls - [x, y]) @ np.array([[cosine, -sine], [sine, cosine]])
    return Measured(points=np.vstack([seen, [[np.nan, np.nan]]]).astype(np.float32))


WALL = np.stack([np.full(81, 2.0), np.linspace(-2, 2, 81)], axis=1)


def drive(wanted: tuple[float, float], walls: np.ndarray[Any, Any], seconds: float) -> tuple[list[float], list[float]]:
    """Drive towards walls for a time; return the least distance to them and the speeds."""
    filtered, pose = SafetyFilter(make_contract()), (0.0, 0.0, 0.0)
    least, speeds = math.inf, []
    for k in range(1, round(seconds / PERIOD_S)):
        command = Command(np.array(wanted), round(k * PERIOD_S * 1e9), round(PERIOD_S * 1e9))
        result = filtered.filter(command, scan_of(walls, pose))
        assert result.command is not None
        v, w = result.command.action.tolist()
        for _ in range(10):
            x, y, yaw = pose
            dt = PERIOD_S / 10
            pose = (x + v * math.cos(yaw + w * dt / 2) * dt, y + v * math.sin(yaw + w * dt / 2) * dt, yaw + w * dt)
            least = min(least, float(np.hypot(*(walls - pose[:2]).T).min()))
        speeds.append(v)
    return [least], speeds


@pytest.mark.parametrize("wanted", [(1.0, 0.0), (1.5, 0.0), (1.0, 0.3), (0.8, -0.4), (0.2, 0.0)])
def test_a_base_stops_in_front_of_a_wall(wanted: tuple[float, float]) -> None:
    (least,), speeds = drive(wanted, WALL, 12)
    assert least >= 0.35 - 1e-6
    assert least < 0.35 + 0.1 or abs(wanted[1]) > 0  # it is not held far from it either
    assert speeds[0] > 0


def test_it_brakes_as_hard_as_it_may_and_no_harder() -> None:
    _, speeds = drive((1.5, 0.0), WALL, 8)
    slowing = -np.diff(speeds) / PERIOD_S
    assert slowing.max() <= 1.0 + 0.25  # places along the way are looked at every 2 cm
    assert min(speeds) == pytest.approx(0.0, abs=0.06)


def test_a_wall_beside_the_way_holds_nothing_back() -> None:
    beside = np.stack([np.linspace(-1, 4, 101), np.full(101, 0.5)], axis=1)
    _, speeds = drive((1.0, 0.0), beside, 3)
    assert speeds[-1] == pytest.approx(1.0)


def test_what_is_too_near_already_may_be_left_and_not_be_approached() -> None:
    near = scan_of(np.array([[0.3, 0.0]]), (0.0, 0.0, 0.0))
    ahead = SafetyFilter(make_contract()).filter(Command(np.array([0.1, 0.0]), 10**9, 10**8), near)
    back = SafetyFilter(make_contract()).filter(Command(np.array([-0.1, 0.0]), 10**9, 10**8), near)
    turn = SafetyFilter(make_contract()).filter(Command(np.array([0.0, 0.5]), 10**9, 10**8), near)
    assert ahead.command is not None
    assert ahead.command.action.tolist() == pytest.approx([0.0, 0.0], abs=0.02)
    assert ahead.interventions == ("clearance",)
    assert back.command is not None
    assert back.command.action.tolist() == [-0.1, 0.0]
    assert turn.command is not None
    assert turn.command.action.tolist() == [0.0, 0.5]


def test_a_sideways_base_looks_where_it_drives() -> None:
    left = scan_of(np.array([[0.0, 0.45]]), (0.0, 0.0, 0.0))
    filtered = SafetyFilter(make_contract(("x", "y", "w")))
    result = filtered.filter(Command(np.array([0.0, 1.0, 0.0]), 10**9, 10**8), left)
    assert result.command is not None
    assert 0 <= result.command.action[1] < 0.4
    filtered = SafetyFilter(make_contract(("x", "y", "w")))
    result = filtered.filter(Command(np.array([0.19, 0.0, 0.0]), 10**9, 10**8), left)
    assert result.command is not None
    assert result.command.action[0] == pytest.approx(0.19)


def test_without_a_scan_nothing_is_driven() -> None:
    result = SafetyFilter(make_contract()).filter(Command(np.array([0.1, 0.0]), 10**9, 10**8), Measured())
    assert result.command is None
    assert result.interventions == ("scan_unknown",)


def test_free_distance_along_an_arc_is_that_of_the_geometry() -> None:
    # a point on the circle of radius 1 m to the left, a quarter turn on; a disc of 0.3 m touches it an arc earlier:
    # the chord of 0.3 m subtends 2·asin(0.15)
    point = np.array([[1.0, 1.0]])
    free = free_distance(point, 1.0, 3.0, 0.3, backwards=False)
    assert free == pytest.approx(math.pi / 2 - 2 * math.asin(0.15), abs=0.03)
    assert free_distance(np.array([[1.0, -1.0]]), -1.0, 3.0, 0.3, backwards=False) == pytest.approx(free)
    assert free_distance(np.array([[-1.0, 1.0]]), 1.0, 3.0, 0.3, backwards=True) == pytest.approx(free)


def test_a_scan_is_brought_into_the_base_frame() -> None:
    spec = make_contract(mounting=[0.2, 0.0, math.pi / 2]).action.limits.clearance
    np.testing.assert_allclose(in_base_frame(np.array([[1.0, 0.0]]), spec), [[0.2, 1.0]], atol=1e-12)


@pytest.mark.parametrize(
    ("clearance", "words"),
    [({"key": "observation.scan.lidr"}, "Did you mean"), ({"key": ""}, "key is required"), ({"radius": 0}, "above 0")],
)
def test_a_clearance_that_cannot_be_kept_is_refused(clearance: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        SafetyFilter(make_contract(**clearance))
