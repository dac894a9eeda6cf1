"""A simulated robot's time: when to step, when to publish, when to take pictures. No message types, no physics.

The simulation thread steps the robot and says what time it is. A robot that renders snapshots has a second thread,
which owns the OpenGL context: at a tick the simulation copies the state and goes on; images show the tick, carry its
stamp and come out later, while clock and physics stay on time. When that takes longer than half a period the
simulation waits: on a slow machine simulated time slows down, while stamps stay true and a camera stays as fast, in
simulated time, as its reader was told. Of any other robot pictures are taken while simulated time stands still.

A step is computed at its end: a command that takes effect at its beginning and arrives within the step moves the robot
from there on, exactly as in lock-step.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError, first_tick_at_or_after, tick_ns
from vla_ros.sim.commands import CommandBuffer, SimCommand
from vla_ros.sim.pacer import Pacer
from vla_ros.sim.parts import RendersSnapshots
from vla_ros.sim.picture_thread import PictureThread
from vla_ros.sim.robot import Decide, Robot, check_period

FIRST_TICK_S = 1
"""Simulated time begins here: at zero ROS takes a clock for not yet running."""


class SimOutputs(Protocol):
    """What the loop tells the world; from the simulation thread except where it says otherwise."""

    def clock(self, stamp_ns: int) -> None:
        """Simulated time has reached a step."""

    def step(self, robot: Robot, stamp_ns: int) -> None:
        """The robot's state is that of a step: publish what is sampled at every step."""

    def tick(self, robot: Robot, stamp_ns: int) -> None:
        """The robot's state is that of a tick: publish what is sampled at a tick and is no picture."""

    def pictures(self, robot: Robot, stamp_ns: int, snapshot: Any) -> None:
        """Publish the pictures of a snapshot, or of the robot where it is None; from the rendering thread if any."""

    def goal(self, robot: Robot, stamp_ns: int) -> None:
        """Publish the goal of the episode that is about to begin; from the rendering thread if there is one."""

    def demonstration(self, action: NDArray[np.float64], stamp_ns: int, episode: int) -> None:
        """The robot's own demonstrator has decided for a tick."""

    def status(self, robot: Robot, stamp_ns: int, episode: int, elapsed_ns: int, halted: bool) -> None:
        """State of the episode at a tick, or at the reset that begins it."""

    def warn(self, sentence: str) -> None:
        """Something a user should know."""


@dataclass(frozen=True)
class LoopOptions:
    """How the simulation keeps time.

    Attributes:
        real_time_factor: Simulated seconds in a second of wall time; not used in lock-step.
        lock_step: Wait at each tick for the command that answers it.
        lock_step_timeout_s: Wall time after which a tick without an answer passes with the robot halted.
        goals: Show a picture of its goal before each episode.
        demonstrator: ``expert`` or ``random``, whose decision is told at each tick; empty for none.
    """

    real_time_factor: float = 1.0
    lock_step: bool = False
    lock_step_timeout_s: float = 2.0
    goals: bool = False
    demonstrator: str = ""

    def __post_init__(self) -> None:
        for name in ("real_time_factor", "lock_step_timeout_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)!r}")


class SimLoop:
    """Runs a robot in simulated time.

    Args:
        robot: At its first episode; the loop closes it.
        contract: Gives the tick rate.
        buffer: Commands to obey.
        outputs: Where everything goes.
        options: Real time or lock-step.
        make: (task, seed) → another robot, at another task.

    Raises:
        ConfigError: The control period is no whole number of the robot's steps, or it has no such demonstrator.
    """

    def __init__(
        self,
        robot: Robot,
        contract: RobotContract,
        buffer: CommandBuffer,
        outputs: SimOutputs,
        *,
        options: LoopOptions,
        make: Callable[[str, int], Robot],
    ) -> None:
        check_period(robot, contract)
        self.robot = robot
        self.episode = 0
        self.now_ns = FIRST_TICK_S * NANOSECONDS
        """Simulated time; written by the simulation thread alone."""
        self._contract, self._fps, self._period_ns = contract, contract.fps, NANOSECONDS // contract.fps
        self._buffer, self._outputs, self._options, self._make = buffer, outputs, options, make
        self._requests: list[tuple[str | None, int, Future[int]]] = []
        self._stopping = False
        self._snapshot: Any = None
        self._decide = self._demonstrator()  # said at the start where there is none
        self._obeyed: SimCommand | None = None
        self._pictures = PictureThread() if isinstance(robot, RendersSnapshots) else None
        self._pacer = Pacer(options.real_time_factor, robot.step_ns, outputs.warn)

    def request_episode(self, seed: int, task: str | None = None) -> "Future[int]":
        """Ask for a new episode from any thread; the future gives its number, or the error that prevented it."""
        future: Future[int] = Future()
        with self._buffer.changed:
            self._requests.append((task, seed, future))
            self._buffer.changed.notify_all()
        return future

    def stop(self) -> None:
        """Ask the loop to end, from any thread."""
        with self._buffer.changed:
            self._stopping = True
            self._buffer.changed.notify_all()

    def run(self) -> None:
        """Simulate until `stop`; the calling thread is the simulation thread.

        Raises:
            RenderingError: This machine cannot render.
        """
        try:
            self._show_goal()
            self._begin_episode()
            while not self._stopping:
                if self._requests:
                    self._serve_requests()
                self._tick()
                if not self._interrupted():
                    self._advance()
        finally:
            self._close()
            for _, _, future in self._requests:
                future.cancel()

    def _close(self) -> None:
        try:
            self._picture_job(self.robot.close)
        finally:
            if self._pictures is not None:
                self._pictures.close()

    def _picture_job(self, job: Callable[[], None]) -> None:
        """Do what belongs to the thread that makes pictures, and return when it is done."""
        if self._pictures is None:
            job()
        else:
            self._pictures.do(job)

    def _wait_for_pictures(self) -> None:
        if self._pictures is not None:
            self._pictures.wait_idle()

    def _interrupted(self) -> bool:
        return self._stopping or bool(self._requests)

    def _serve_requests(self) -> None:
        with self._buffer.changed:
            requests, self._requests = self._requests, []
        self._wait_for_pictures()  # a reset may move things that are being rendered
        for task, seed, future in requests:
            try:
                if task is None or task == self.robot.task:
                    self.robot.reset(seed)
                else:
                    self._replace(self._make(task, seed))
                self._show_goal()
            except Exception as error:  # noqa: BLE001 (reported to whoever asked; the running episode goes on)
                future.set_exception(error)
                continue
            self._begin_episode()
            future.set_result(self.episode)

    def _replace(self, robot: Robot) -> None:
        self._picture_job(self.robot.close)
        self.robot, self._snapshot = robot, None

    def _show_goal(self) -> None:
        """Have a picture of the coming episode's goal made, before its first observation can be."""
        if self._options.goals and self._contract.goal is not None:
            self._picture_job(lambda: self._outputs.goal(self.robot, self.now_ns))

    def _demonstrator(self) -> Decide | None:
        return self.robot.demonstrator(self._options.demonstrator) if self._options.demonstrator else None

    def _begin_episode(self) -> None:
        """Announce the episode one period before its first tick, and let windows fill meanwhile."""
        self.episode += 1
        # Later than anything published so far: the clock never jumps back, not even over a reset.
        self.now_ns = tick_ns(first_tick_at_or_after(self.now_ns + 1, self._fps), self._fps)
        self._start_ns = self.now_ns
        self._buffer.clear(self.now_ns)
        self._obey(None)
        self._decide = self._demonstrator()
        self._pacer.restart(self.now_ns)
        self._outputs.clock(self.now_ns)
        self._outputs.status(self.robot, self.now_ns, self.episode, 0, True)
        self._outputs.step(self.robot, self.now_ns)
        self._advance()

    def _tick(self) -> None:
        stamp_ns, robot = self.now_ns, self.robot
        self._wait_for_pictures()
        self._outputs.status(robot, stamp_ns, self.episode, stamp_ns - self._start_ns, self._obeyed is None)
        if self._decide is not None:
            self._outputs.demonstration(self._decide(), stamp_ns, self.episode)
        self._outputs.tick(robot, stamp_ns)
        if self._pictures is None or not isinstance(robot, RendersSnapshots):
            self._outputs.pictures(robot, stamp_ns, None)
        else:
            snapshot = self._snapshot = robot.snapshot(self._snapshot)
            self._pictures.submit(lambda: self._outputs.pictures(robot, stamp_ns, snapshot))
        if self._options.lock_step:
            self._wait_for_pictures()
            self._await_answer(stamp_ns)

    def _await_answer(self, stamp_ns: int) -> None:
        with self._buffer.changed:
            self._buffer.changed.wait_for(
                lambda: self._interrupted() or self._buffer.answered(stamp_ns), self._options.lock_step_timeout_s
            )
            if not self._interrupted() and not self._buffer.answered(stamp_ns):
                self._buffer.drop()
                self._outputs.warn(
                    f"lock-step: no command answered tick {stamp_ns / NANOSECONDS:.3f} s within "
                    f"{self._options.lock_step_timeout_s:g} s; the robot stands still for this period"
                )

    def _advance(self) -> None:
        """Simulate one period, in steps."""
        tick, end_ns = self.now_ns, tick_ns(first_tick_at_or_after(self.now_ns + 1, self._fps), self._fps)
        step_ns = self.robot.step_ns
        while self.now_ns < end_ns and not self._stopping:
            if not self._options.lock_step:
                self._pacer.wait_until(self.now_ns + step_ns)
            if self.now_ns + step_ns > tick + self._period_ns // 2:
                self._wait_for_pictures()
            command = self._buffer.command_at(self.now_ns)
            if command is not self._obeyed:
                self._obey(command)
            self.robot.step()
            self.now_ns += step_ns
            self._outputs.clock(self.now_ns)
            self._outputs.step(self.robot, self.now_ns)

    def _obey(self, command: SimCommand | None) -> None:
        self._obeyed = command
        if command is None:
            self.robot.command(None, self._period_ns)
        else:
            self.robot.command(command.order, command.period_ns)
