"""What a simulated robot is: reset, obey, step, sense. Each simulator is one class behind it; no ROS, no wall clock.

A simulator is a function of a `SimRequest` in `vla_ros.registry.SIMULATORS`, built in or of another package's entry
points ``vla_ros.simulators``. What a robot may have besides, and does without otherwise, is in `vla_ros.sim.parts`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.data_types.foreign_text import plain
from vla_ros.registry import SIMULATORS
from vla_ros.schema import Section, load_yaml

DEFAULT_SIMULATOR = "metaworld"

Decide = Callable[[], NDArray[np.float64]]
"""Returns the action, float64 [A] in the contract's units, for the robot's present state."""


@dataclass(frozen=True)
class SimRequest:
    """What a simulator is asked for.

    Attributes:
        contract: The robot: the inputs that are read, and the action that it must obey.
        task: Name of the task; empty for the simulator's own.
        seed: Start of the first episode.
        config: The simulator's file, None for its defaults.
    """

    contract: RobotContract
    task: str = ""
    seed: int = 0
    config: Path | None = None


@runtime_checkable
class Robot(Protocol):
    """A robot at one task, in simulated time that stands still between calls.

    The five values may be plain attributes.
    """

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def seed(self) -> int:
        """Start of the present episode."""

    @property
    def step_ns(self) -> int:
        """Simulated time of a step, ns; a control period is a whole number of them."""

    @property
    def success(self) -> bool:
        """Whether the task has been done in this episode."""

    @property
    def reward(self) -> float:
        """Of the last step."""

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`; equal seeds give equal episodes. The robot stands still until a command."""

    def command(self, action: Any, period_ns: int) -> None:
        """Take up an action for the coming steps.

        Args:
            action: float64 [A] in the contract's units and order, NaN where a message says nothing about a number and
                it stays as it is; or the order that the robot read from a message itself (`vla_ros.sim.ReadsCommands`).
                None: stand still, and keep the gripper as it is.
            period_ns: Time over which it is to be carried out.
        """

    def step(self) -> None:
        """Simulate `step_ns`."""

    def check_input(self, spec: InputSpec) -> None:
        """Refuse an input of the contract that nothing here stands behind.

        Raises:
            ConfigError: Names the input and what is missing.
        """

    def message(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return an input's message of the present state, made by a `vla_ros.sim.message_maker.RosbagsMaker`.

        Of a latched image, the goal's picture; it is asked for at the beginning of an episode only, which it leaves as
        it was. All pictures of a robot are asked for in one thread, which need not be the one that simulates.
        """

    def demonstrator(self, policy: str) -> Decide:
        """Return what decides without a policy, for the episode that begins now.

        Args:
            policy: ``expert`` or ``random``.

        Raises:
            ConfigError: This simulator has none.
        """

    def close(self) -> None:
        """Release windows and contexts, in the thread that asked for pictures; the robot is not used again."""


def make_robot(name: str, request: SimRequest) -> Robot:
    """Build a simulated robot.

    Args:
        name: In `vla_ros.registry.SIMULATORS`; empty takes the one that the request's file names, else MetaWorld.
        request: What is asked for.

    Raises:
        ConfigError: There is no such simulator, it is no `Robot`, the file is another simulator's, or the robot's
            control period is no whole number of its steps.
        UserError: As the simulator's own.
    """
    named = simulator_of(request.config)
    if name and named and name != named:
        raise ConfigError(f"{request.config}: simulator is '{plain(named)}', but '{plain(name)}' is asked for.")
    chosen = name or named or DEFAULT_SIMULATOR
    robot = SIMULATORS[chosen](request)
    if not isinstance(robot, Robot):
        lacks = [part for part in _PARTS if not hasattr(robot, part)]
        raise ConfigError(
            f"simulator '{chosen}' makes a {type(robot).__name__} without {', '.join(lacks)}; see vla_ros.sim.Robot."
        )
    try:
        check_period(robot, request.contract)
    except ConfigError:
        robot.close()
        raise
    return robot


_PARTS = (
    *("task", "seed", "step_ns", "success", "reward"),
    *("reset", "command", "step", "check_input", "message", "demonstrator", "close"),
)


def check_period(robot: Robot, contract: RobotContract) -> None:
    """Refuse a control period that is no whole number of the robot's steps.

    Raises:
        ConfigError: Says both.
    """
    period_ns = NANOSECONDS // contract.fps
    if robot.step_ns < 1 or period_ns % robot.step_ns:
        raise ConfigError(
            f"{contract.source}: a period of fps {contract.fps} is {period_ns / 1e6:g} ms, which is no whole number of "
            f"the simulation's steps of {robot.step_ns / 1e6:g} ms; use another fps."
        )


def simulator_of(config: Path | None) -> str:
    """Return the simulator that a file names in ``simulator``; empty where it names none.

    Raises:
        ConfigError: The file is missing or malformed.
    """
    if config is None:
        return ""
    return Section(str(config), "", load_yaml(config, ConfigError), ConfigError).scalar("simulator", str, "")
