"""Episodes of the simulated arm with the policy in the same process: no ROS, no transport, no threads, no latency.

What a policy can do at best, to compare with what it does behind topics; and the quick way to compare many of them. The
policy's half is the node's own `PolicyRuntime`, which is given the messages that the simulated robot would publish.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.checkpoint import load_checkpoint
from vla_ros.contract import InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, Command, ConfigError, first_tick_at_or_after, tick_ns
from vla_ros.evaluation.rollout_report import CommandRecord, EpisodeTrace
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.runtime import Clock, ManualClock, PolicyRuntime, Predictor, RuntimeOptions, TorchPredictor
from vla_ros.sim.cameras import CameraRig
from vla_ros.sim.config import SimConfig
from vla_ros.sim.expert import Demonstrator
from vla_ros.sim.goals import goal_snapshot
from vla_ros.sim.messages import Encode, RosbagsMaker, SensorMessages
from vla_ros.sim.metaworld_robot import GRIPPER_OPEN, STEP_NS, MetaWorldRobot

START_NS = NANOSECONDS
"""Simulated time at which an episode begins, as in the node."""


class Driver(Protocol):
    """Decides on commands.

    Attributes:
        inference_ns: Wall time of every prediction of the episode; stays empty where none is made.
    """

    inference_ns: list[int]

    def begin_episode(self, robot: MetaWorldRobot) -> None:
        """Forget the last episode; the robot is at the beginning of the next and is left there."""

    def step(self, robot: MetaWorldRobot, stamp_ns: int) -> None:
        """See what the robot senses at a simulation step, of which there are several between two ticks."""

    def command(self, robot: MetaWorldRobot, stamp_ns: int) -> Command | None:
        """Return the command for the tick, or None to stand still."""

    @property
    def note(self) -> str:
        """Why nothing was commanded when it last was not, in a sentence."""

    @property
    def dropped(self) -> dict[str, int]:
        """Reason → commands of the episode that the safety filter dropped."""


class PolicyDriver:
    """A checkpoint behind the runtime, with the observation's own tick as the moment of effect, as in lock-step.

    Args:
        contract: The robot.
        predictor: The policy.
        rig: The cameras of the simulated robot.
        config: What stands behind each input.
        options: How the policy is run; lock-step in any case.

    Raises:
        UserError: The policy takes an input that is not simulated, or does not fit the robot.
    """

    def __init__(
        self,
        contract: RobotContract,
        predictor: Predictor,
        rig: CameraRig,
        config: SimConfig,
        options: RuntimeOptions | None = None,
    ) -> None:
        self._contract, self._rig = contract, rig
        self._clock = ManualClock()
        options = replace(options or RuntimeOptions(), lock_step=True)
        clock: Clock = self._clock
        self.runtime = PolicyRuntime(contract, predictor, deserialize, clock, options)
        self._robot: MetaWorldRobot | None = None
        self._messages = SensorMessages(contract, config, self._present_robot, RosbagsMaker())
        self._images = [(i, s) for i, s in enumerate(self.runtime.specs) if s.image is not None and not s.is_latched]
        self._goals = [(i, s) for i, s in enumerate(self.runtime.specs) if s.image is not None and s.is_latched]
        self._others: list[tuple[int, InputSpec, Encode]] | None = None
        for _, spec in self._images:
            self._messages.check_camera(spec.key)
        self.inference_ns: list[int] = []

    @property
    def dropped(self) -> dict[str, int]:
        """Reason → commands of the episode that the safety filter dropped."""
        return self.runtime.controller.dropped

    @property
    def note(self) -> str:
        """Why nothing was commanded when it last was not, in a sentence."""
        return self.runtime.controller.status.message

    def begin_episode(self, robot: MetaWorldRobot) -> None:
        """Forget the last episode, and show the goal where the policy takes one."""
        self._robot = robot
        if self._others is None:
            sampled = [(i, s) for i, s in enumerate(self.runtime.specs) if s.image is None and not s.is_latched]
            self._others = [(index, spec, self._messages.encoder(spec)) for index, spec in sampled]
        self._clock.set(START_NS)
        self.runtime.start()
        self.inference_ns = []
        for index, spec in self._goals:
            image = self._rig.render(goal_snapshot(robot, self._contract))[spec.camera]
            message = self._messages.picture(spec.type, self._messages.header(START_NS), image)
            self.runtime.push(index, serialize(message, spec.type), START_NS)
        self.step(robot, START_NS)

    def step(self, robot: MetaWorldRobot, stamp_ns: int) -> None:
        """Take the sensors that are sampled at every simulation step."""
        self._robot = robot
        self._clock.set(stamp_ns)
        self._push(stamp_ns, every_step=True)

    def command(self, robot: MetaWorldRobot, stamp_ns: int) -> Command | None:
        """Observe, predict, and return what passes the safety filter."""
        self._robot = robot
        self._push(stamp_ns, every_step=False)
        if self._images:
            images = self._rig.render(robot.snapshot())
            for index, spec in self._images:
                raw = serialize(self._messages.image(spec, stamp_ns, images[spec.key]), spec.type)
                self.runtime.push(index, raw, stamp_ns)
        observed = self.runtime.observe(every_tick=True)
        decision = self.runtime.decide()
        if decision is not None:
            self.runtime.deliver(decision, decision.observed.stamp_ns)
            observed = decision.observed
            if decision.chunk is not None:
                self.inference_ns.append(decision.chunk.inference_ns)
        return self.runtime.control(stamp_ns, answers=observed).command

    def _push(self, stamp_ns: int, *, every_step: bool) -> None:
        for index, spec, encode in self._others or ():
            if spec.type.endswith("/Imu") == every_step:
                self.runtime.push(index, serialize(encode(stamp_ns), spec.type), stamp_ns)

    def _present_robot(self) -> MetaWorldRobot:
        if self._robot is None:
            raise RuntimeError("no episode has begun")
        return self._robot


class ExpertDriver:
    """The task's scripted expert, or random commands."""

    def __init__(self, contract: RobotContract, demonstrator: Demonstrator) -> None:
        self._period_ns, self._demonstrator = NANOSECONDS // contract.fps, demonstrator
        self.inference_ns: list[int] = []

    @property
    def note(self) -> str:
        """The expert always commands."""
        return ""

    @property
    def dropped(self) -> dict[str, int]:
        """Its commands pass no filter."""
        return {}

    def begin_episode(self, robot: MetaWorldRobot) -> None:
        """Forget the last episode."""
        self._demonstrator.begin_episode(robot.seed)

    def step(self, robot: MetaWorldRobot, stamp_ns: int) -> None:
        """The expert sees the simulation itself."""

    def command(self, robot: MetaWorldRobot, stamp_ns: int) -> Command:
        """Return what the expert wants."""
        return Command(self._demonstrator.decide(robot.privileged_observation).executed, stamp_ns, self._period_ns)


def make_driver(
    policy: str,
    contract: RobotContract,
    *,
    checkpoint: str | None,
    rig: CameraRig,
    config: SimConfig,
    task: str,
    options: RuntimeOptions | None = None,
) -> Driver:
    """Return what commands the arm.

    Args:
        policy: ``checkpoint``, ``expert`` or ``random``.
        contract: The robot.
        checkpoint: Folder, for ``checkpoint``.
        rig: Cameras of the simulated robot.
        config: What stands behind each of its inputs.
        task: Name of the task, for the others.
        options: How the policy is run.

    Raises:
        UserError: The checkpoint cannot be read or does not fit the robot; there is no such task.
    """
    if policy != "checkpoint" or checkpoint is None:
        return ExpertDriver(contract, Demonstrator(task, "random" if policy == "random" else "expert"))
    loaded = load_checkpoint(checkpoint)
    loaded.check_robot(contract)
    return PolicyDriver(contract, TorchPredictor(loaded, seed=0), rig, config, options)


def run_in_process(
    robot: MetaWorldRobot,
    contract: RobotContract,
    driver: Driver,
    *,
    episodes: int,
    first_seed: int,
    time_limit_s: float,
) -> Iterator[EpisodeTrace]:
    """Yield the trace of each episode; times in it are simulated, there are no others.

    Args:
        robot: The arm.
        contract: Its contract; the action must be a displacement with a gripper.
        driver: What commands it.
        episodes: How many.
        first_seed: Episode i starts from ``first_seed + i``.
        time_limit_s: Simulated time after which an episode has failed.

    Raises:
        ConfigError: The contract's action is of another kind.
    """
    action = contract.action
    if action.representation != "displacement" or action.rotation != "none" or action.gripper is None:
        raise ConfigError(f"{contract.source}: --in-process takes a displacement without rotation and a gripper.")
    for index in range(episodes):
        yield _episode(robot, contract, driver, seed=first_seed + index, number=index + 1, time_limit_s=time_limit_s)


def _episode(
    robot: MetaWorldRobot, contract: RobotContract, driver: Driver, *, seed: int, number: int, time_limit_s: float
) -> EpisodeTrace:
    robot.reset(seed)
    driver.begin_episode(robot)
    trace = EpisodeTrace(seed, number, START_NS, START_NS)
    first = first_tick_at_or_after(START_NS, contract.fps)
    period_ns = NANOSECONDS // contract.fps
    gripper = GRIPPER_OPEN
    _move(robot, driver, np.zeros(3), gripper, START_NS, period_ns)  # the first sensors come one period after the reset
    for tick in range(first + 1, first + 1 + round(time_limit_s * contract.fps)):
        stamp_ns = tick_ns(tick, contract.fps)
        trace.end_ns, trace.ticks = stamp_ns, trace.ticks + 1
        if robot.success:
            trace.success_ns = stamp_ns
            break
        command = driver.command(robot, stamp_ns)
        trace.halted_ticks += command is None
        trace.note = driver.note or trace.note
        velocity: NDArray[np.float64] = np.zeros(3)
        if command is not None:
            gripper = float(command.action[3])
            velocity = command.action[:3] * (NANOSECONDS / command.period_ns)
            trace.commands.append(CommandRecord(0, stamp_ns, command.observation_stamp_ns, command.action))
        _move(robot, driver, velocity, gripper, stamp_ns, period_ns)
        trace.reward += robot.reward
    trace.inference_ns = list(driver.inference_ns)
    trace.dropped = dict(driver.dropped)
    return trace


def _move(  # noqa: PLR0917 (what moves, what watches, how, when)
    robot: MetaWorldRobot, driver: Driver, velocity: NDArray[np.float64], gripper: float, start_ns: int, period_ns: int
) -> None:
    """Simulate one period from `start_ns` on."""
    for step in range(1, period_ns // STEP_NS + 1):
        robot.step(velocity, gripper)
        driver.step(robot, start_ns + step * STEP_NS)
