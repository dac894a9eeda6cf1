"""Facts about the demonstrator."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)  # before mujoco, whose backend it chooses

from vla_ros.data_types import ConfigError
from vla_ros.sim.metaworld.arm import MetaWorldRobot
from vla_ros.sim.metaworld.config import load_sim_config
from vla_ros.sim.metaworld.expert import Demonstrator

CONFIG = load_sim_config(Path(__file__).parents[3] / "config" / "sim" / "metaworld_sawyer.yaml")
STATE = np.linspace(0.0, 0.9, 39)


def episode(robot: MetaWorldRobot, demonstrator: Demonstrator, seed: int, n_ticks: int = 100) -> bool:
    robot.reset(seed)
    demonstrator.begin_episode(seed)
    for _ in range(n_ticks):
        action = demonstrator.decide(robot.privileged_observation)
        for _ in range(4):
            robot.step(action[:3] / 0.05, action[3])
        if robot.success:
            return True
    return False


def actions(demonstrator: Demonstrator, n: int = 6) -> list[np.ndarray]:
    demonstrator.begin_episode(5)
    return [demonstrator.decide(STATE) for _ in range(n)]


def test_the_expert_pushes_the_puck_to_the_goal_at_twenty_hertz_and_chance_does_not() -> None:
    robot = MetaWorldRobot("push-v3", CONFIG)
    assert all(episode(robot, Demonstrator("push-v3"), seed) for seed in range(3))
    assert not episode(robot, Demonstrator("push-v3", "random"), 0)


def test_an_intention_is_at_most_a_centimetre_a_period_along_each_axis() -> None:
    for action in actions(Demonstrator("push-v3")):
        assert np.abs(action[:3]).max() <= 0.01


def test_random_actions_repeat_with_their_episode_and_another_seed_gives_others() -> None:
    first, again = actions(Demonstrator("push-v3", "random")), actions(Demonstrator("push-v3", "random"))
    other = actions(Demonstrator("push-v3", "random", seed=1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_senseless_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not one of expert, random"):
        Demonstrator("push-v3", "expret")  # type: ignore[arg-type]
