"""What a task's end looks like from a start: the scripted expert goes there and the robot comes back. No rendering."""

from typing import Any

import numpy as np

from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.sim.metaworld.arm import STEP_NS, MetaWorldRobot
from vla_ros.sim.metaworld.expert import Demonstrator

TIME_LIMIT_S = 15.0
"""Simulated time that the expert has."""


def goal_snapshot(robot: MetaWorldRobot, contract: RobotContract) -> Any:
    """Let the expert do the task from the robot's start and return the state that it ends in, for a renderer.

    Demonstrations end at success too: a camera sees here what it sees in their last frames. The robot is left at the
    beginning of the same episode, bit for bit.

    Args:
        robot: At the beginning of an episode.
        contract: Its contract; the action must be a displacement with a gripper.

    Returns:
        As `MetaWorldRobot.snapshot`.

    Raises:
        ConfigError: The expert does not succeed from here.
    """
    seed, steps = robot.seed, NANOSECONDS // contract.fps // STEP_NS
    expert = Demonstrator(robot.task)
    expert.begin_episode(seed)
    for _ in range(round(TIME_LIMIT_S * contract.fps)):
        if robot.success:
            break
        action = expert.decide(robot.privileged_observation)
        for _ in range(steps):
            robot.step(np.asarray(action[:3]) * contract.fps, float(action[3]))
    snapshot, succeeded = robot.snapshot(), robot.success
    robot.reset(seed)
    if not succeeded:
        raise ConfigError(
            f"{robot.task}: its expert does not succeed from start {seed} within {TIME_LIMIT_S:g} s, so there is no "
            "picture of the goal; choose another start or task."
        )
    return snapshot
