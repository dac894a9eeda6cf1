"""Where the expert ends is the goal's picture, and looking at it leaves no trace."""

from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract import load_contract
from vla_ros.data_types import ConfigError
from vla_ros.sim.metaworld import goals
from vla_ros.sim.metaworld.arm import MetaWorldRobot
from vla_ros.sim.metaworld.config import load_sim_config
from vla_ros.sim.metaworld.goals import goal_snapshot

CONFIG = Path(__file__).parents[3] / "config"
CONTRACT = load_contract(CONFIG / "robots/metaworld_sawyer.yaml")


@pytest.fixture(scope="module")
def robot() -> MetaWorldRobot:
    return MetaWorldRobot("push-v3", load_sim_config(CONFIG / "sim/metaworld_sawyer.yaml"))


def test_the_puck_lies_at_the_target_and_the_robot_is_back_at_its_start(robot: MetaWorldRobot) -> None:
    for seed in (3, 4):
        robot.reset(seed)
        before = robot.privileged_observation.copy()
        snapshot = goal_snapshot(robot, CONTRACT)
        target = before[36:39]
        assert np.linalg.norm(snapshot.body("obj").xpos[:2] - target[:2]) < 0.05  # MetaWorld's own criterion
        assert np.linalg.norm(before[4:6] - target[:2]) > 0.05
        np.testing.assert_array_equal(robot.privileged_observation, before)
        assert not robot.success


def test_where_the_expert_fails_there_is_no_picture(robot: MetaWorldRobot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals, "TIME_LIMIT_S", 0.2)
    robot.reset(3)
    with pytest.raises(ConfigError, match=r"push-v3: its expert does not succeed from start 3 within 0\.2 s"):
        goal_snapshot(robot, CONTRACT)
    assert robot.seed == 3
