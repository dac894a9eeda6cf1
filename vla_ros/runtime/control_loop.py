"""The thread that commands the robot at its control rate. Touches no torch, decodes nothing, waits for no inference."""

import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command, tick_ns
from vla_ros.ros_io import MissingInput
from vla_ros.runtime import ChunkExecutor, ExecutionStatus, LatencyTracker
from vla_ros.runtime.clock import Clock
from vla_ros.runtime.inference_worker import TickResult
from vla_ros.safety import SafetyFilter

_IDLE_S = 0.1


class ControlState(Enum):
    """What the loop is doing; the names are those of PolicyStatus."""

    WAITING = "waiting"
    RUNNING = "running"
    HOLDING = "holding"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ControlStatus:
    """What the loop did at its last tick, and why.

    Attributes:
        state: In one word.
        message: The cause in one sentence, empty while all is well.
        missing: Inputs without a fresh value.
    """

    state: ControlState = ControlState.WAITING
    message: str = "No tick yet."
    missing: tuple[MissingInput, ...] = ()


@dataclass(frozen=True)
class CommandSink:
    """How the loop publishes.

    Attributes:
        command: Publishes one command on every sink that takes commands.
        chunk: Publishes a chunk on every sink that takes chunks.
        enabled: Whether anything may be published at all; False is a dry run.
    """

    command: Callable[[Command], None]
    chunk: Callable[[ActionChunk], None]
    enabled: Callable[[], bool]


class ControlLoop:
    """Publishes the command due at every tick of the control rate, or the safe reaction and its reason.

    Args:
        contract: The robot's contract.
        executor: Says which action is due.
        safety: Has the last word on every action.
        clock: The node's time.
        sink: Where commands go.
        stale_inputs: Needed inputs from which nothing has come for longer than their limit, at a given time.
        newest_result: What the inference thread found last.
        lock_step: Answer each result at its own tick instead of following the clock.
    """

    def __init__(
        self,
        contract: RobotContract,
        executor: ChunkExecutor,
        safety: SafetyFilter,
        clock: Clock,
        sink: CommandSink,
        *,
        stale_inputs: Callable[[int], tuple[MissingInput, ...]],
        newest_result: Callable[[], TickResult | None],
        lock_step: bool,
    ) -> None:
        self._contract, self._executor, self._safety, self._clock = contract, executor, safety, clock
        self._sink, self._stale_inputs, self._newest_result = sink, stale_inputs, newest_result
        self._lock_step = lock_step
        self._rate_hz = contract.control_rate_hz
        self._period_ns = NANOSECONDS // self._rate_hz
        self._results: queue.SimpleQueue[TickResult | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._commanding = False  # whether the robot's last command may still move it
        self._published_chunk = 0
        limits = contract.action.limits
        self._position_key = limits.position_key if safety.needs_position else ""
        names = contract.feature(self._position_key).names if self._position_key else ()
        self._position_index = [names.index(name) for name in limits.position_names] if self._position_key else []
        self.status = ControlStatus()
        self.lateness = LatencyTracker()
        self.commands = self.deadline_misses = self.interventions = 0
        self.must_abort = False
        self.fault = ""

    def start(self) -> None:
        """Command from the next tick on."""
        self._stopping.clear()
        self._results = queue.SimpleQueue()
        self.status, self.fault, self.must_abort = ControlStatus(), "", False
        self.commands = self.deadline_misses = self.interventions = self._published_chunk = 0
        self.lateness.restart()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Command zero motion and end the thread."""
        self._stopping.set()
        self._results.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def on_result(self, result: TickResult) -> None:
        """Take what became of a tick; needed in lock-step only."""
        if self._lock_step:
            self._results.put(result)

    def _run(self) -> None:
        try:
            if self._lock_step:
                self._follow_results()
            else:
                self._follow_clock()
        except Exception:  # noqa: BLE001
            # A bug here must stop the robot and be told, not leave the last motion standing.
            self.fault = f"control failed: {traceback.format_exc()}"
        finally:
            self._quiet(self._clock.now_ns())

    def _follow_clock(self) -> None:
        index: int | None = None
        while not self._stopping.is_set():
            now_ns = self._clock.now_ns()
            if now_ns <= 0:
                self.status = ControlStatus(message="Simulated time has not begun: nothing on /clock.")
                self._stopping.wait(_IDLE_S)
                continue
            newest = now_ns * self._rate_hz // NANOSECONDS
            if index is None or index > newest + 2:  # the first tick, or time went back
                index = newest + 1
            elif index < newest:  # whole ticks were missed: their commands are void, a burst of them a hazard
                self.deadline_misses += newest - index
                index = newest
            late_ns = self._clock.wait_until(tick_ns(index, self._rate_hz), self._stopping.is_set)
            if late_ns is None:
                index = None
                continue
            self.lateness.add(late_ns)
            self.deadline_misses += late_ns > self._period_ns // 2
            self._tick(tick_ns(index, self._rate_hz))
            index += 1

    def _follow_results(self) -> None:
        while not self._stopping.is_set():
            result = self._results.get()
            if result is not None:
                self._tick(result.stamp_ns, result)

    def _tick(self, t_ns: int, result: TickResult | None = None) -> None:
        """Command what is due at `t_ns`, or react to why nothing is."""
        result = result or self._newest_result()
        missing = () if self._lock_step else self._stale_inputs(t_ns)
        if result is not None and not missing:
            missing = result.missing
        if self._safety.stopped:
            self._executor.clear()
            self._react(t_ns, ControlState.STOPPED, "A stop is latched; commands resume after ~/reset_stop.")
        elif missing:
            self._react_to_missing(t_ns, missing)
        else:
            self._execute(t_ns, result)

    def _execute(self, t_ns: int, result: TickResult | None) -> None:
        execution = self._executor.command_at(t_ns)
        if execution.status is ExecutionStatus.WAITING:
            self._react(t_ns, ControlState.WAITING, "No action chunk yet.")
        elif execution.status is ExecutionStatus.ZERO:
            text = "The newest action chunk has ended: inference is too slow; holding still."
            self._react(t_ns, ControlState.HOLDING, text)
        elif execution.command is None or execution.chunk is None:
            self._react(t_ns, ControlState.STOPPED, "The newest action chunk has ended: inference is too slow.")
        else:
            self._give(execution.command, execution.chunk, self._position(result), execution.status)

    def _give(
        self, command: Command, chunk: ActionChunk, position: NDArray[np.generic] | None, status: ExecutionStatus
    ) -> None:
        """Pass a policy's command through the safety filter and publish it."""
        filtered = self._safety.filter(command, position)
        self.interventions += bool(filtered.interventions)
        if filtered.command is None:
            reason = ", ".join(filtered.interventions)
            self._react(command.effect_ns, ControlState.STOPPED, f"The safety filter dropped the command: {reason}.")
            return
        enabled = self._sink.enabled()
        if enabled:
            self._sink.command(filtered.command)
            if chunk.chunk_id > self._published_chunk:
                self._published_chunk = chunk.chunk_id
                bounded, _ = self._safety.filter_chunk(chunk, position)
                if bounded is not None:
                    self._sink.chunk(bounded)
            self.commands += 1
            self._commanding = True
        else:
            self._quiet(command.effect_ns)
        running = status is ExecutionStatus.RUNNING
        self.status = ControlStatus(
            ControlState.RUNNING if running else ControlState.HOLDING,
            "" if running else "The newest action chunk has ended: repeating its last step.",
        )

    def _react_to_missing(self, t_ns: int, missing: tuple[MissingInput, ...]) -> None:
        """React as the contract says for the gravest of the missing inputs."""
        self._executor.clear()  # when the input returns, what was decided before it went must not resume
        reactions = {item.on_missing for item in missing}
        cause = "; ".join(map(str, missing))
        if "abort" in reactions:
            self.must_abort = True
            self._react(t_ns, ControlState.STOPPED, f"Deactivating: {cause}.", missing)
        elif "stop" in reactions:
            never = self.commands == 0 and not self._commanding
            state = ControlState.WAITING if never else ControlState.STOPPED
            self._react(t_ns, state, f"{cause}; commands resume when it returns.", missing)
        else:
            self._react(t_ns, ControlState.HOLDING, f"{cause}; holding still until it returns.", missing)

    def _react(self, t_ns: int, state: ControlState, message: str, missing: tuple[MissingInput, ...] = ()) -> None:
        """Hold still by commands, or command zero motion once and then nothing."""
        if state is ControlState.HOLDING and self._sink.enabled():
            self._zero(t_ns)
        else:
            self._quiet(t_ns)
        self.status = ControlStatus(state, message, missing)

    def _quiet(self, t_ns: int) -> None:
        """Command zero motion if the robot may be moving, even when control was just disabled; then nothing more."""
        if self._commanding:
            self._commanding = False
            self._zero(t_ns)

    def _zero(self, t_ns: int) -> None:
        """Publish zero motion. It passes no filter: none may forbid standing still."""
        command = self._executor.zero_command(t_ns, self._safety.last_action)
        if command is None:
            return
        self._safety.note_standstill(t_ns)
        self._sink.command(command)
        if self._published_chunk:  # whoever executes a chunk by itself must hear that it is void
            self._published_chunk = 0
            self._sink.chunk(ActionChunk(command.action[None].copy(), t_ns, command.period_ns, chunk_id=0))

    def _position(self, result: TickResult | None) -> NDArray[np.generic] | None:
        """Where the end effector was at the newest observation, if the safety filter needs to know."""
        if not self._position_key or result is None or result.frame is None:
            return None
        return result.frame.values[self._position_key][self._position_index]
