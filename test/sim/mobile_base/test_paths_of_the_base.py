"""Facts about paths as commands: the tracker in the base, and the experts of the worlds that plan them."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.egl")
pytest.importorskip("mujoco")

from vla_ros.contract import load_contract
from vla_ros.data_types import ActionChunk
from vla_ros.messages.encoders import encode_chunk
from vla_ros.rollouts.in_process import ExpertDriver, run_in_process
from vla_ros.sim.command_reader import CommandReader, command_sink
from vla_ros.sim.commands import CommandRefusedError
from vla_ros.sim.mobile_base.config import load_base_config
from vla_ros.sim.mobile_base.planner import CostField
from vla_ros.sim.mobile_base.pure_pursuit import point_ahead, pursue
from vla_ros.sim.mobile_base.robot import MobileBase
from vla_ros.sim.mobile_base.worlds import make_world

CONFIG_FOLDER = Path(__file__).parents[3] / "config"
CONTRACT = load_contract(CONFIG_FOLDER / "robots" / "mobile_base.yaml")
PATHS = load_contract(CONFIG_FOLDER / "robots" / "mobile_base_path.yaml")
BLIND = dataclasses.replace(load_base_config(CONFIG_FOLDER / "sim" / "mobile_base.yaml"), cameras={})
PERIOD_NS = 100_000_000
SINK = next(sink for sink in PATHS.action.sinks if sink.type == "nav_msgs/msg/Path")


def path_message(points: list[tuple[float, float]], frame: str = "base_link", seconds: float = 2.0) -> Any:
    def header(at: float) -> SimpleNamespace:
        return SimpleNamespace(frame_id=frame, stamp=SimpleNamespace(sec=1, nanosec=round(at * 1e9)))

    poses = [
        SimpleNamespace(
            header=SimpleNamespace(stamp=SimpleNamespace(sec=1 + int(seconds), nanosec=round(seconds % 1 * 1e9))),
            pose=SimpleNamespace(position=SimpleNamespace(x=x, y=y)),
        )
        for x, y in points
    ]
    return SimpleNamespace(header=header(0.0), poses=poses)


def test_the_contracts_that_the_base_ships_are_of_one_robot_and_one_set_of_inputs() -> None:
    assert PATHS.robot_type == CONTRACT.robot_type
    assert [spec for spec in PATHS.inputs if spec.key != "observation.odometry"] == list(CONTRACT.inputs)


def test_a_path_in_the_bases_frame_is_followed_from_where_the_base_is_and_to_its_end() -> None:
    robot = MobileBase(CONTRACT, BLIND, make_world("rough-patches"), 2)
    x, y, yaw = robot.base.pose
    corners = [(0.4, 0.0), (0.6, 0.15), (0.75, 0.35)]
    command = robot.read_command(SINK, path_message(corners, seconds=2.5), 0)
    assert (command.stamp_ns, command.period_ns) == (10**9, 2_500_000_000)
    robot.command(command.order, command.period_ns)
    for _ in range(600):
        robot.step()
    ahead, left = corners[-1]
    end = x + ahead * math.cos(yaw) - left * math.sin(yaw), y + ahead * math.sin(yaw) + left * math.cos(yaw)
    np.testing.assert_allclose(robot.base.pose[:2], end, atol=0.08)
    assert np.hypot(*robot.base.velocity[:2]) < 0.02
    robot.command(None, PERIOD_NS)
    assert robot._tracker.order is None


def test_a_path_that_the_policy_node_sends_is_read_in_the_odometrys_frame() -> None:
    robot = MobileBase(PATHS, BLIND, make_world("crossing-night"), 2)
    sink = command_sink(PATHS, robot, "path")
    chunk = ActionChunk(np.array([[0.06 * k, 0.0, 0.0] for k in range(1, 9)]), 7 * PERIOD_NS, PERIOD_NS, 1)
    (command,) = CommandReader(PATHS, sink).read(encode_chunk(sink, PATHS, chunk), robot, 0)
    assert command.stamp_ns == 7 * PERIOD_NS
    assert not command.order.is_relative
    robot.command(command.order, command.period_ns)
    for _ in range(50):
        robot.step()
    assert robot.base.odometry_twist[0] == pytest.approx(0.6, abs=0.06), "0.06 m every 0.1 s"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (path_message([(1.0, 0.0)], frame="map"), "frame"),
        (path_message([]), "empty"),
        (path_message([(math.nan, 0.0)]), "not_finite"),
        (path_message([(1.0, 0.0)], seconds=-1.0), "time"),
    ],
)
def test_a_path_that_cannot_be_followed_is_refused(message: Any, reason: str) -> None:
    robot = MobileBase(CONTRACT, BLIND, make_world("crossing-night"))
    with pytest.raises(CommandRefusedError) as refusal:
        robot.read_command(SINK, message, 0)
    assert refusal.value.reason == reason


def test_pursuit_goes_straight_along_a_straight_path_turns_to_what_is_behind_and_stops_at_the_end() -> None:
    straight = np.array([(0.0, 0.0), (2.0, 0.0)])
    assert pursue(straight, np.zeros(3), 0.6) == (0.6, 0.0)
    speed, turn = pursue(straight, np.array([0.0, 0.0, math.pi - 0.1]), 0.6)
    assert speed == 0.0
    assert turn < 0.0
    _, turn = pursue(straight, np.array([0.5, 0.2, 0.0]), 0.6)
    assert turn < 0.0, "back to the path, which is to the right"
    assert pursue(straight, np.array([2.0, 0.0, 0.0]), 0.6) == (0.0, 0.0)


def test_the_point_ahead_is_measured_along_the_path_from_its_nearest_point() -> None:
    corner = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
    point, left = point_ahead(corner, np.array([0.8, 0.1]), 0.5)
    np.testing.assert_allclose(point, [1.0, 0.3])
    assert left == pytest.approx(1.2)


def test_the_cheapest_way_goes_around_a_wall_and_nowhere_through_it() -> None:
    cost = np.ones((20, 20))
    cost[10, 3:] = np.inf  # a wall at x = 1 m with a gap below y = 0.3 m
    field = CostField(cost, 0.0, 0.1, np.array((1.55, 1.55)))
    path = field.path(np.array((0.45, 1.55)), np.array((1.55, 1.55)))
    np.testing.assert_allclose(path[[0, -1]], [(0.45, 1.55), (1.55, 1.55)])
    crossing = int(np.argmax(path[:, 0] > 1.05))
    assert path[crossing - 1 : crossing + 1, 1].max() < 0.4
    cost[10, :] = np.inf
    assert not CostField(cost, 0.0, 0.1, np.array((1.55, 1.55))).is_reachable_from(np.array((0.45, 1.55)))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["obstacles-day", "obstacles-night", "t-maze", "rough-patches", "crossing-night"])
@pytest.mark.parametrize("contract", [CONTRACT, PATHS], ids=["twists", "waypoints"])
def test_every_worlds_expert_succeeds_in_process(task: str, contract: Any) -> None:
    robot = MobileBase(contract, BLIND, make_world(task))
    traces = run_in_process(
        robot, contract, ExpertDriver(contract, "expert"), episodes=1, first_seed=7, time_limit_s=26
    )
    assert [(trace.task, trace.success, trace.note) for trace in traces] == [(task, True, "")]


def test_an_episode_in_process_ends_when_it_has_failed() -> None:
    robot = MobileBase(CONTRACT, BLIND, make_world("crossing-night"))
    robot.world.failure = lambda situation: "touched something" if situation.time_s > 0.5 else ""  # type: ignore[method-assign]
    driver = ExpertDriver(CONTRACT, "expert")
    (trace,) = run_in_process(robot, CONTRACT, driver, episodes=1, first_seed=0, time_limit_s=20)
    assert not trace.success
    assert trace.note == "touched something"
    assert trace.time_s < 1.0
