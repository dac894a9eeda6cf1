"""The simulated robot's time: when to step, when to publish, when to render. No message types, no physics.

Two threads. The simulation thread steps the physics and says what time it is; the rendering thread owns the
OpenGL context. At a tick the simulation copies its state, which takes 10 µs, and goes on: images show the
tick, carry its stamp and come out about 15 ms later, while clock and physics stay on time. When rendering
takes longer than 25 ms the simulation waits for it: on a slow machine simulated time slows down, while stamps
stay true and a camera stays as fast, in simulated time, as its reader was told.

A step from s to s + 12.5 ms is computed at its end: a command that takes effect at s and arrives within 12.5 ms
of wall time moves the arm from s on, exactly as in lock-step.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError, first_tick_at_or_after, tick_ns
from vla_ros.sim.cameras import CameraRig
from vla_ros.sim.commands import CommandBuffer
from vla_ros.sim.config import SimConfig
from vla_ros.sim.goals import goal_snapshot
from vla_ros.sim.metaworld_robot import STEP_NS, MetaWorldRobot

FIRST_TICK_S = 1
"""Simulated time begins here: at zero ROS takes a clock for not yet running."""
RENDER_BUDGET_NS = 2 * STEP_NS
"""Simulated time goes this far past a tick without its images; then it waits for them."""
_REPORT_PERIOD_S = 5.0


class SimOutputs(Protocol):
    """What the loop tells the world; called from the simulation thread except for `images`."""

    def clock(self, stamp_ns: int) -> None:
        """Simulated time has reached a step."""

    def imu(self, stamp_ns: int) -> None:
        """The robot's state is that of a step: publish what is sampled at every step."""

    def tick(self, stamp_ns: int) -> None:
        """The robot's state is that of a tick: publish what is sampled at a tick."""

    def status(self, stamp_ns: int, episode: int, elapsed_ns: int, halted: bool) -> None:
        """State of the episode at a tick, or at the reset that begins it."""

    def images(self, stamp_ns: int, model: Any, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Images of a tick are ready; called from the rendering thread."""

    def goal(self, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """The goal of the episode that is about to begin; called from the rendering thread."""

    def warn(self, sentence: str) -> None:
        """Something a user should know."""


@dataclass(frozen=True)
class LoopOptions:
    """How the simulation keeps time.

    Attributes:
        real_time_factor: Simulated seconds in a second of wall time; not used in lock-step.
        lock_step: Wait at each tick for the command that answers it.
        lock_step_timeout_s: Wall time after which a tick without an answer passes with the arm halted.
        goals: Show a picture of its goal before each episode.
    """

    real_time_factor: float = 1.0
    lock_step: bool = False
    lock_step_timeout_s: float = 2.0
    goals: bool = False

    def __post_init__(self) -> None:
        for name in ("real_time_factor", "lock_step_timeout_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)!r}")


Deliver = Callable[[int, Any, Mapping[str, NDArray[np.uint8]]], None]
"""Takes stamp, model and images."""


class RenderThread:
    """Renders one snapshot at a time in a thread of its own.

    Args:
        config: Cameras.
    """

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self._changed = threading.Condition()
        self._job: tuple[int, Any, Any, Deliver] | None = None  # stamp, model, snapshot, to whom
        self._error: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="rendering", daemon=True)
        self._thread.start()

    def submit(self, stamp_ns: int, model: Any, snapshot: Any, deliver: Deliver) -> None:
        """Render a snapshot, which nobody may touch until `wait_idle` returns; `deliver` is called in this thread."""
        with self._changed:
            self._job = (stamp_ns, model, snapshot, deliver)
            self._changed.notify_all()

    def wait_idle(self) -> None:
        """Return when nothing is being rendered.

        Raises:
            RenderingError: Rendering has failed on this machine.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._job is None or self._error is not None)
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Finish the image in progress, free the OpenGL contexts and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        rig: CameraRig | None = None
        rig_model: Any = None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or self._job is not None)
                    if self._job is None:
                        return
                    stamp_ns, model, snapshot, deliver = self._job
                if rig is None or model is not rig_model:
                    if rig is not None:
                        rig.close()
                    rig, rig_model = CameraRig(model, self._config.cameras), model
                deliver(stamp_ns, model, rig.render(snapshot))
                with self._changed:
                    self._job = None
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 (handed to the simulation thread, which raises it)
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            if rig is not None:
                rig.close()


class SimLoop:
    """Runs a robot in simulated time.

    Args:
        robot: At its first episode.
        contract: Gives the tick rate.
        buffer: Commands to obey.
        outputs: Where everything goes.
        options: Real time or lock-step.

    Raises:
        ConfigError: The contract's `fps` does not divide the simulation's 80 Hz.
    """

    def __init__(
        self,
        robot: MetaWorldRobot,
        contract: RobotContract,
        buffer: CommandBuffer,
        outputs: SimOutputs,
        options: LoopOptions,
    ) -> None:
        if (NANOSECONDS // STEP_NS) % contract.fps:
            raise ConfigError(
                f"{contract.source}: fps {contract.fps} does not divide the simulation's {NANOSECONDS // STEP_NS} Hz; "
                "use one of 1, 2, 4, 5, 8, 10, 16, 20, 40, 80"
            )
        self.robot = robot
        self.episode = 0
        self.now_ns = FIRST_TICK_S * NANOSECONDS
        """Simulated time; written by the simulation thread alone."""
        self._fps, self._buffer, self._outputs, self._options = contract.fps, buffer, outputs, options
        self._requests: list[tuple[str | None, int, Future[int]]] = []
        self._stopping = False
        self._snapshot: Any = None
        self._contract = contract
        self._renderer = RenderThread(robot.config)
        self._pacer = _Pacer(options.real_time_factor, outputs.warn)

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
            self._renderer.close()
            for _, _, future in self._requests:
                future.cancel()

    def _interrupted(self) -> bool:
        return self._stopping or bool(self._requests)

    def _serve_requests(self) -> None:
        with self._buffer.changed:
            requests, self._requests = self._requests, []
        self._renderer.wait_idle()  # a reset moves things in the model that is being rendered
        for task, seed, future in requests:
            try:
                if task is None or task == self.robot.task:
                    self.robot.reset(seed)
                else:
                    self.robot = MetaWorldRobot(task, self.robot.config, seed)
                    self._snapshot = None
                self._show_goal()
            except Exception as error:  # noqa: BLE001 (reported to whoever asked; the running episode goes on)
                future.set_exception(error)
                continue
            self._begin_episode()
            future.set_result(self.episode)

    def _show_goal(self) -> None:
        """Have a picture of the coming episode's goal made, before its first observation can be."""
        goal = self._contract.goal
        if not self._options.goals or goal is None:
            return
        snapshot, camera = goal_snapshot(self.robot, self._contract), goal.camera

        def deliver(stamp_ns: int, model: Any, images: Mapping[str, NDArray[np.uint8]]) -> None:  # noqa: ARG001
            self._outputs.goal(stamp_ns, images[camera])

        self._renderer.submit(self.now_ns, self.robot.model, snapshot, deliver)
        self._renderer.wait_idle()

    def _begin_episode(self) -> None:
        """Announce the episode one period before its first tick, and let the IMU's window fill meanwhile."""
        self.episode += 1
        # Later than anything published so far: the clock never jumps back, not even over a reset.
        self.now_ns = tick_ns(first_tick_at_or_after(self.now_ns + 1, self._fps), self._fps)
        self._start_ns = self.now_ns
        self._halted = True
        self._buffer.clear(self.now_ns)
        self._pacer.restart(self.now_ns)
        self._outputs.clock(self.now_ns)
        self._outputs.status(self.now_ns, self.episode, 0, True)
        self._outputs.imu(self.now_ns)
        self._advance()

    def _tick(self) -> None:
        stamp_ns = self.now_ns
        self._renderer.wait_idle()
        self._outputs.status(stamp_ns, self.episode, stamp_ns - self._start_ns, self._halted)
        self._outputs.tick(stamp_ns)
        self._snapshot = self.robot.snapshot(self._snapshot)
        self._renderer.submit(stamp_ns, self.robot.model, self._snapshot, self._outputs.images)
        if self._options.lock_step:
            self._renderer.wait_idle()
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
                    f"{self._options.lock_step_timeout_s:g} s; the arm stands still for this period"
                )

    def _advance(self) -> None:
        """Simulate one period, in steps."""
        tick, end_ns = self.now_ns, tick_ns(first_tick_at_or_after(self.now_ns + 1, self._fps), self._fps)
        while self.now_ns < end_ns and not self._stopping:
            if not self._options.lock_step:
                self._pacer.wait_until(self.now_ns + STEP_NS)
            if self.now_ns + STEP_NS > tick + RENDER_BUDGET_NS:
                self._renderer.wait_idle()
            motion = self._buffer.motion_at(self.now_ns, self.robot.set_point)
            self._halted = motion.halted
            self.robot.step(motion.velocity, motion.gripper)
            self.now_ns += STEP_NS
            self._outputs.clock(self.now_ns)
            self._outputs.imu(self.now_ns)


class _Pacer:
    """Ties simulated time to wall time; falls behind rather than hurry."""

    def __init__(self, factor: float, warn: Callable[[str], None]) -> None:
        self._factor, self._warn = factor, warn
        self.restart(0)

    def restart(self, sim_ns: int) -> None:
        """From now on simulated time runs on from `sim_ns`."""
        self._anchor_wall, self._anchor_sim = time.monotonic(), sim_ns
        self._report_wall, self._report_sim = self._anchor_wall, sim_ns

    def wait_until(self, sim_ns: int) -> None:
        """Sleep until simulated time is due."""
        due = self._anchor_wall + (sim_ns - self._anchor_sim) / NANOSECONDS / self._factor
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        elif now - due > 2.0 * STEP_NS / NANOSECONDS / self._factor:
            # Catching up would hand the policy ticks closer together than the real robot's.
            self._anchor_wall, self._anchor_sim = now, sim_ns
        if now - self._report_wall > _REPORT_PERIOD_S:
            achieved = (sim_ns - self._report_sim) / NANOSECONDS / (now - self._report_wall)
            if achieved < 0.95 * self._factor:
                self._warn(
                    f"simulated time runs at {achieved:.2f} of wall time, asked for {self._factor:g}: "
                    "this machine is too slow"
                )
            self._report_wall, self._report_sim = now, sim_ns
