"""Facts about the demonstrator."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.tasks", exc_type=ImportError)  # vla_ros.sim chooses how mujoco renders: it comes first

from vla_ros.data_types import ConfigError
from vla_ros.sim.config import load_sim_config
from vla_ros.sim.expert import Demonstrator, ExpertAction
from vla_ros.sim.metaworld_robot import MetaWorldRobot

CONFIG = load_sim_config(Path(__file__).parents[2] / "config" / "sim" / "metaworld_sawyer.yaml")
STATE = np.linspace(0.0, 0.9, 39)


def episode(robot: MetaWorldRobot, demonstrator: Demonstrator, seed: int, n_ticks: int = 100) -> bool:
    robot.reset(seed)
    demonstrator.begin_episode(seed)
    for _ in range(n_ticks):
        action = demonstrator.decide(robot.privileged_observation).executed
        for _ in range(4):
            robot.step(action[:3] / 0.05, action[3])
        if robot.success:
            return True
    return False


def actions(demonstrator: Demonstrator, n: int = 6) -> list[ExpertAction]:
    demonstrator.begin_episode(5)
    return [demonstrator.decide(STATE) for _ in range(n)]


def test_the_expert_pushes_the_puck_to_the_goal_at_twenty_hertz_and_chance_does_not() -> None:
    robot = MetaWorldRobot("push-v3", CONFIG)
    assert all(episode(robot, Demonstrator("push-v3"), seed) for seed in range(3))
    assert not episode(robot, Demonstrator("push-v3", "random"), 0)


def test_an_intention_is_at_most_a_centimetre_a_period_along_each_axis() -> None:
    for action in actions(Demonstrator("push-v3", noise_std=2.0)):
        assert np.abs(action.intended[:3]).max() <= 0.01
        assert np.abs(action.executed[:3]).max() <= 0.01


def test_noise_moves_what_is_executed_and_leaves_intention_and_gripper_alone() -> None:
    quiet, noisy = actions(Demonstrator("push-v3")), actions(Demonstrator("push-v3", noise_std=0.3))
    for a, b in zip(quiet, noisy, strict=True):
        np.testing.assert_array_equal(a.intended, a.executed)
        np.testing.assert_array_equal(a.intended, b.intended)
        assert b.executed[3] == b.intended[3]
    assert any(not np.array_equal(a.executed, a.intended) for a in noisy)


def test_an_episode_repeats_its_noise_and_another_seed_does_not() -> None:
    first, again = actions(Demonstrator("push-v3", noise_std=0.3)), actions(Demonstrator("push-v3", noise_std=0.3))
    other = actions(Demonstrator("push-v3", noise_std=0.3, seed=1))
    assert all(np.array_equal(a.executed, b.executed) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.executed, b.executed) for a, b in zip(first, other, strict=True))


def test_held_noise_changes_only_when_its_ticks_are_over() -> None:
    demonstrator = Demonstrator("push-v3", "random", noise_std=0.05, noise_hold_ticks=3, seed=2)
    noise = [a.executed[:3] - a.intended[:3] for a in actions(demonstrator) if np.abs(a.executed[:3]).max() < 0.01]
    assert len({tuple(np.round(n, 12)) for n in noise}) <= 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise_std": -1.0}, "noise_std must be at least 0"),
        ({"noise_std": float("nan")}, "noise_std must be at least 0"),
        ({"noise_hold_ticks": 0}, "noise_hold_ticks must be at least 1"),
        ({"policy": "expret"}, "is not one of expert, random"),
    ],
)
def test_a_senseless_option_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Demonstrator("push-v3", **options)
