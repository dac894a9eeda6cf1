"""Episodes of a simulated robot with the policy in the same process: no ROS, no transport, no threads, no latency.

What a policy can do at best, to compare with what it does behind topics; and the quick way to compare many of them. The
policy's half is the node's own `PolicyRuntime`, which is given the messages that the simulated robot would publish.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from vla_ros.checkpoint import load_checkpoint
from vla_ros.contract import InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, Command, first_tick_at_or_after, tick_ns
from vla_ros.evaluation.rollout_report import CommandRecord, EpisodeTrace
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.runtime import Clock, ManualClock, PolicyRuntime, Predictor, RuntimeOptions, TorchPredictor
from vla_ros.sim.parts import MayFail
from vla_ros.sim.robot import Decide, Robot, check_period
from vla_ros.sim.unplugged import unplugged_keys

START_NS = NANOSECONDS
"""Simulated time at which an episode begins, as in the node."""


class Driver(Protocol):
    """Decides on commands.

    Attributes:
        inference_ns: Wall time of every prediction of the episode; stays empty where none is made.
    """

    inference_ns: list[int]

    def begin_episode(self, robot: Robot) -> None:
        """Forget the last episode; the robot is at the beginning of the next and is left there."""

    def step(self, robot: Robot, stamp_ns: int) -> None:
        """See what the robot senses at a simulation step, of which there are several between two ticks."""

    def command(self, robot: Robot, stamp_ns: int) -> Command | None:
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
        options: How the policy is run; lock-step in any case.
        unplugged: Feature keys of inputs that the policy is not given.

    Raises:
        UserError: The policy does not fit the robot.
    """

    def __init__(
        self,
        contract: RobotContract,
        predictor: Predictor,
        options: RuntimeOptions | None = None,
        unplugged: Iterable[str] = (),
    ) -> None:
        self._clock = ManualClock()
        options = replace(options or RuntimeOptions(), lock_step=True)
        clock: Clock = self._clock
        self.runtime = PolicyRuntime(contract, predictor, deserialize, clock, options)
        lacking = unplugged_keys(unplugged, contract)
        sampled = [
            (i, spec) for i, spec in enumerate(self.runtime.specs) if not spec.is_latched and spec.key not in lacking
        ]
        self._windows = [(i, spec) for i, spec in sampled if spec.window is not None]
        self._others = [(i, spec) for i, spec in sampled if spec.window is None]
        self._goals = [(i, s) for i, s in enumerate(self.runtime.specs) if s.is_latched and s.image is not None]
        self.inference_ns: list[int] = []

    @property
    def dropped(self) -> dict[str, int]:
        """Reason → commands of the episode that the safety filter dropped."""
        return self.runtime.controller.dropped

    @property
    def note(self) -> str:
        """Why nothing was commanded when it last was not, in a sentence."""
        return self.runtime.controller.status.message

    def begin_episode(self, robot: Robot) -> None:
        """Forget the last episode, and show the goal where the policy takes one.

        Raises:
            ConfigError: An input of the policy is not simulated.
        """
        for _, spec in (*self._windows, *self._others, *self._goals):
            robot.check_input(spec)
        self._clock.set(START_NS)
        self.runtime.start()
        self.inference_ns = []
        self._push(robot, self._goals, START_NS)
        self.step(robot, START_NS)

    def step(self, robot: Robot, stamp_ns: int) -> None:
        """Take the sensors of which a policy sees every sample up to a tick."""
        self._clock.set(stamp_ns)
        self._push(robot, self._windows, stamp_ns)

    def command(self, robot: Robot, stamp_ns: int) -> Command | None:
        """Observe, predict, and return what passes the safety filter."""
        self._push(robot, self._others, stamp_ns)
        observed = self.runtime.observe(every_tick=True)
        decision = self.runtime.decide()
        if decision is not None:
            self.runtime.deliver(decision, decision.observed.stamp_ns)
            observed = decision.observed
            if decision.chunk is not None:
                self.inference_ns.append(decision.chunk.inference_ns)
        return self.runtime.control(stamp_ns, answers=observed).command

    def _push(self, robot: Robot, inputs: list[tuple[int, InputSpec]], stamp_ns: int) -> None:
        for index, spec in inputs:
            self.runtime.push(index, serialize(robot.message(spec, stamp_ns), spec.type), stamp_ns)


class ExpertDriver:
    """The task's scripted expert, or random commands.

    Args:
        contract: The robot.
        policy: ``expert`` or ``random``.
    """

    def __init__(self, contract: RobotContract, policy: str) -> None:
        self._period_ns, self._policy = NANOSECONDS // contract.fps, policy
        self._decide: Decide | None = None
        self.inference_ns: list[int] = []

    @property
    def note(self) -> str:
        """The expert always commands."""
        return ""

    @property
    def dropped(self) -> dict[str, int]:
        """Its commands pass no filter."""
        return {}

    def begin_episode(self, robot: Robot) -> None:
        """Forget the last episode.

        Raises:
            ConfigError: The simulator has no such demonstrator.
        """
        self._decide = robot.demonstrator(self._policy)

    def step(self, robot: Robot, stamp_ns: int) -> None:
        """The expert sees the simulation itself."""

    def command(self, robot: Robot, stamp_ns: int) -> Command:  # noqa: ARG002  # it was given the robot before
        """Return what the expert wants."""
        if self._decide is None:
            raise RuntimeError("no episode has begun")
        return Command(self._decide(), stamp_ns, self._period_ns)


def make_driver(
    policy: str,
    contract: RobotContract,
    *,
    checkpoint: str | None,
    options: RuntimeOptions | None = None,
    unplugged: Iterable[str] = (),
) -> Driver:
    """Return what commands the robot.

    Args:
        policy: ``checkpoint``, ``expert`` or ``random``.
        contract: The robot.
        checkpoint: Folder, for ``checkpoint``.
        options: How the policy is run.
        unplugged: Feature keys of inputs that it is not given.

    Raises:
        UserError: The checkpoint cannot be read or does not fit the robot.
    """
    if policy != "checkpoint" or checkpoint is None:
        return ExpertDriver(contract, "random" if policy == "random" else "expert")
    loaded = load_checkpoint(checkpoint)
    loaded.check_robot(contract)
    return PolicyDriver(contract, TorchPredictor(loaded, seed=0), options, unplugged)


def run_in_process(
    robot: Robot,
    contract: RobotContract,
    driver: Driver,
    *,
    episodes: int,
    first_seed: int,
    time_limit_s: float,
) -> Iterator[EpisodeTrace]:
    """Yield the trace of each episode; times in it are simulated, there are no others.

    Args:
        robot: Of any simulator; its control period is checked by `vla_ros.sim.robot.make_robot`.
        contract: Its contract.
        driver: What commands it.
        episodes: How many.
        first_seed: Episode i starts from ``first_seed + i``.
        time_limit_s: Simulated time after which an episode has failed.

    Raises:
        ConfigError: The robot's steps do not fit the contract's fps, or an input is not simulated.
    """
    check_period(robot, contract)
    for index in range(episodes):
        yield _episode(robot, contract, driver, seed=first_seed + index, number=index + 1, time_limit_s=time_limit_s)


def _episode(
    robot: Robot, contract: RobotContract, driver: Driver, *, seed: int, number: int, time_limit_s: float
) -> EpisodeTrace:
    robot.reset(seed)
    driver.begin_episode(robot)
    trace = EpisodeTrace(seed, number, START_NS, START_NS, task=robot.task)
    first = first_tick_at_or_after(START_NS, contract.fps)
    period_ns = NANOSECONDS // contract.fps
    robot.command(None, period_ns)
    _move(robot, driver, START_NS, period_ns)  # the first sensors come one period after the reset
    for tick in range(first + 1, first + 1 + round(time_limit_s * contract.fps)):
        stamp_ns = tick_ns(tick, contract.fps)
        trace.end_ns, trace.ticks = stamp_ns, trace.ticks + 1
        if robot.success:
            trace.success_ns = stamp_ns
            break
        if isinstance(robot, MayFail) and robot.failure:
            trace.note = robot.failure
            break
        command = driver.command(robot, stamp_ns)
        trace.halted_ticks += command is None
        trace.note = driver.note or trace.note
        if command is None:
            robot.command(None, period_ns)
        else:
            robot.command(command.action, command.period_ns)
            trace.commands.append(CommandRecord(0, stamp_ns, command.observation_stamp_ns, command.action))
        _move(robot, driver, stamp_ns, period_ns)
        trace.reward += robot.reward
    trace.inference_ns = list(driver.inference_ns)
    trace.dropped = dict(driver.dropped)
    return trace


def _move(robot: Robot, driver: Driver, start_ns: int, period_ns: int) -> None:
    """Simulate one period from `start_ns` on."""
    for step in range(1, period_ns // robot.step_ns + 1):
        robot.step()
        driver.step(robot, start_ns + step * robot.step_ns)
