"""Episodes of the simulated arm with the policy in the same process: no ROS, no transport, no threads, no latency.

What a policy can do at best, to hold against what it does behind topics; and the quick way to compare many of them.
The policy's half is the node's own: runner, chunk executor, safety filter.
"""

import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from types import SimpleNamespace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.checkpoint import load_checkpoint
from vla_ros.contract import GOAL_IMAGE, InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, Array, Command, ConfigError, Frame, first_tick_at_or_after, tick_ns
from vla_ros.evaluation.rollout_report import CommandRecord, EpisodeTrace
from vla_ros.runtime import ChunkExecutor, PolicyRunner
from vla_ros.safety import SafetyFilter
from vla_ros.sim.cameras import CameraRig
from vla_ros.sim.expert import Demonstrator
from vla_ros.sim.goals import goal_snapshot
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

    def command(self, robot: MetaWorldRobot, stamp_ns: int) -> Command | None:
        """Return the command for the tick, or None to stand still."""


class PolicyDriver:
    """A checkpoint, executed with the observation's own tick as the moment of effect, as the node does in lock-step.

    Args:
        contract: The robot.
        runner: The checkpoint, ready to predict.
        rig: The cameras of the simulated robot.
        chunk_mode: As the policy node's parameter.

    Raises:
        ConfigError: The policy takes an input that is neither image, pose nor joint state.
    """

    def __init__(
        self, contract: RobotContract, runner: PolicyRunner, rig: CameraRig, chunk_mode: str = "latest"
    ) -> None:
        self._contract, self._runner, self._rig = contract, runner, rig
        self._specs = [spec for spec in contract.inputs if spec.key in runner.input_keys]
        self._executor = ChunkExecutor(contract.action, contract.fps, chunk_mode)
        self._safety = SafetyFilter(contract)
        wanted = contract.goal if GOAL_IMAGE in runner.input_keys else None
        self._goal_camera = None if wanted is None else wanted.camera
        self._goal: NDArray[np.uint8] | None = None
        self.inference_ns: list[int] = []
        for spec in self._specs:
            if spec.type not in _READERS:
                raise ConfigError(
                    f"{contract.source}: {spec.key}: {spec.type} is not simulated in process; those that are: "
                    f"{', '.join(_READERS)}. Leave out --in-process."
                )

    def begin_episode(self, robot: MetaWorldRobot) -> None:
        """Forget frames, policy state, chunks and the last command; look at the goal, where the policy takes one."""
        if self._goal_camera is not None:
            self._goal = self._rig.render(goal_snapshot(robot, self._contract))[self._goal_camera]
        self._runner.reset()
        self._executor.clear()
        self._safety.reset()
        self.inference_ns = []

    def command(self, robot: MetaWorldRobot, stamp_ns: int) -> Command | None:
        """Observe, predict, and return what passes the safety filter."""
        frame = self._frame(robot, stamp_ns)
        self._runner.observe(frame)
        begin_ns = time.perf_counter_ns()
        chunk = self._runner.predict()
        self.inference_ns.append(time.perf_counter_ns() - begin_ns)
        self._executor.submit(chunk)
        execution = self._executor.command_at(stamp_ns)
        if execution.command is None:
            return None
        return self._safety.filter(execution.command, self._position(frame)).command

    def _frame(self, robot: MetaWorldRobot, stamp_ns: int) -> Frame:
        images = self._rig.render(robot.snapshot())
        parts: dict[str, list[Array]] = {}
        for spec in self._specs:
            parts.setdefault(spec.key, []).append(_READERS[spec.type](spec, robot, images))
        values = {key: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for key, arrays in parts.items()}
        if self._goal is not None:
            values[GOAL_IMAGE] = self._goal
        return Frame(stamp_ns, values, self._contract.instruction.default)

    def _position(self, frame: Frame) -> Array | None:
        limits = self._contract.action.limits
        if not self._safety.needs_position or limits.position_key not in frame.values:
            return None
        names = self._contract.feature(limits.position_key).names
        return frame.values[limits.position_key][[names.index(name) for name in limits.position_names]]


class ExpertDriver:
    """The task's scripted expert, or random commands."""

    def __init__(self, contract: RobotContract, demonstrator: Demonstrator) -> None:
        self._period_ns, self._demonstrator = NANOSECONDS // contract.fps, demonstrator
        self.inference_ns: list[int] = []

    def begin_episode(self, robot: MetaWorldRobot) -> None:
        """Forget the last episode."""
        self._demonstrator.begin_episode(robot.seed)

    def command(self, robot: MetaWorldRobot, stamp_ns: int) -> Command:
        """Return what the expert wants."""
        return Command(self._demonstrator.decide(robot.privileged_observation).executed, stamp_ns, self._period_ns)


def make_driver(
    policy: str,
    contract: RobotContract,
    *,
    checkpoint: str | None,
    rig: CameraRig,
    task: str,
    chunk_mode: str = "latest",
) -> Driver:
    """Return what commands the arm.

    Args:
        policy: ``checkpoint``, ``expert`` or ``random``.
        contract: The robot.
        checkpoint: Folder, for ``checkpoint``.
        rig: Cameras of the simulated robot.
        task: Name of the task, for the others.
        chunk_mode: How action chunks are executed.

    Raises:
        UserError: The checkpoint cannot be read or does not fit the robot; there is no such task.
    """
    if policy != "checkpoint" or checkpoint is None:
        return ExpertDriver(contract, Demonstrator(task, "random" if policy == "random" else "expert"))
    loaded = load_checkpoint(checkpoint)
    loaded.check_robot(contract)
    return PolicyDriver(contract, PolicyRunner(loaded, seed=0), rig, chunk_mode)


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
    steps = NANOSECONDS // contract.fps // STEP_NS
    _move(robot, np.zeros(3), GRIPPER_OPEN, steps)  # the node's first sensors come one period after the reset
    gripper = GRIPPER_OPEN
    for tick in range(first + 1, first + 1 + round(time_limit_s * contract.fps)):
        stamp_ns = tick_ns(tick, contract.fps)
        trace.end_ns, trace.ticks = stamp_ns, trace.ticks + 1
        if robot.success:
            trace.success_ns = stamp_ns
            break
        command = driver.command(robot, stamp_ns)
        trace.halted_ticks += command is None
        velocity: NDArray[np.float64] = np.zeros(3)
        if command is not None:
            gripper = float(command.action[3])
            velocity = command.action[:3] * (NANOSECONDS / command.period_ns)
            trace.commands.append(CommandRecord(0, stamp_ns, command.observation_stamp_ns, command.action))
        _move(robot, velocity, gripper, steps)
        trace.reward += robot.reward
    trace.inference_ns = list(driver.inference_ns)
    return trace


def _move(robot: MetaWorldRobot, velocity: NDArray[np.float64], gripper: float, steps: int) -> None:
    for _ in range(steps):
        robot.step(velocity, gripper)


def _read_image(spec: InputSpec, robot: MetaWorldRobot, images: dict[str, NDArray[np.uint8]]) -> Array:  # noqa: ARG001
    image = images[spec.key]
    if image.shape != spec.shape or (spec.image is not None and spec.image.crop is not None):
        raise ConfigError(f"{spec.key}: --in-process needs a camera of the contract's own size {spec.shape}.")
    return image


def _read_pose(spec: InputSpec, robot: MetaWorldRobot, images: dict[str, NDArray[np.uint8]]) -> Array:  # noqa: ARG001
    x, y, z = robot.position
    qx, qy, qz, qw = robot.orientation
    pose = SimpleNamespace(position=SimpleNamespace(x=x, y=y, z=z), orientation=SimpleNamespace(x=qx, y=qy, z=qz, w=qw))
    message = SimpleNamespace(pose=pose)
    return np.array([attrgetter(field)(message) for field in spec.fields], np.float32)


def _read_joints(spec: InputSpec, robot: MetaWorldRobot, images: dict[str, NDArray[np.uint8]]) -> Array:  # noqa: ARG001
    positions, velocities = robot.joint_state(spec.names)
    return (positions if spec.fields == ("position",) else velocities).astype(np.float32)


_READERS: dict[str, Callable[[InputSpec, MetaWorldRobot, dict[str, NDArray[np.uint8]]], Array]] = {
    "sensor_msgs/msg/Image": _read_image,
    "geometry_msgs/msg/PoseStamped": _read_pose,
    "sensor_msgs/msg/JointState": _read_joints,
}
