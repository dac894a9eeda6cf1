"""What the robot is told at a moment, or how it reacts to why nothing is due. No thread, no publisher, no torch."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import ActionChunk, Command
from vla_ros.runtime.chunk_executor import ChunkExecutor, Execution, ExecutionStatus
from vla_ros.runtime.path_tracking import PathTracker
from vla_ros.safety import DROPPING, REASONS, Measured, SafetyFilter
from vla_ros.safety.reasons import FOLLOWING_ERROR
from vla_ros.streams import MissingInput


class ControlState(Enum):
    """What the robot is being told; the names are those of PolicyStatus."""

    WAITING = "waiting"
    RUNNING = "running"
    HOLDING = "holding"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ControlStatus:
    """What was done at the last control moment, and why.

    Attributes:
        state: In one word.
        message: The cause in one sentence, empty while all is well.
        missing: Inputs without a fresh value.
    """

    state: ControlState = ControlState.WAITING
    message: str = "No tick yet."
    missing: tuple[MissingInput, ...] = ()


@dataclass(frozen=True)
class ControlOutput:
    """What is to be published at a control moment.

    Attributes:
        command: For every sink that takes commands; None when nothing is to be said.
        chunk: A chunk that is new, bounded by the filter, or one of zero motion that makes the last one void.
        moves: Whether sinks that move a robot may get them. In a dry run they do not, and the chunk is telemetry.
        decided: Whether the command is the policy's rather than a reaction.
    """

    command: Command | None = None
    chunk: ActionChunk | None = None
    moves: bool = True
    decided: bool = False


@dataclass(frozen=True)
class Situation:
    """What the controller needs to know at a moment.

    Attributes:
        missing: Needed inputs without a fresh value.
        problem: Why the policy decides nothing, in a sentence; empty while it does.
        measured: Where the robot is, as the newest samples say; None when they do not.
        enabled: Whether commands may be published; False is a dry run.
    """

    missing: tuple[MissingInput, ...] = ()
    problem: str = ""
    measured: Measured | None = None
    enabled: bool = True


class Controller:
    """Turns the chunk in force into commands, through the safety filter.

    One thread calls `control` and `halt`.

    Args:
        executor: Says which action is due.
        safety: Has the last word on every action.
        tracker: Of an action that is a trajectory: makes the twists that follow it.

    Attributes:
        status: What was done last, and why.
        commands: Commands of the policy given.
        interventions: Commands that the filter changed or dropped.
        dropped: Reason → commands that the filter dropped.
        must_abort: Whether an input is missing whose absence ends control.
    """

    def __init__(self, executor: ChunkExecutor, safety: SafetyFilter, tracker: PathTracker | None = None) -> None:
        self._executor, self._safety, self._tracker = executor, safety, tracker
        self.reset()

    def reset(self) -> None:
        """Start anew: nothing was commanded, and the robot may be anywhere."""
        self._moving = False  # whether the robot's last command may still move it
        self._seeded = False  # whether the filter's reference is where the robot is
        self._published_chunk = 0
        self._stop_cause = ""
        self.status = ControlStatus()
        self.commands = self.interventions = 0
        self.dropped: dict[str, int] = {}
        self.must_abort = False

    def control(self, t_ns: int, now: Situation) -> ControlOutput:
        """Return what is to be published for the control moment `t_ns`."""
        if self._safety.stop.latched:
            cause = self._stop_cause or "A stop is latched"
            return self._stop_for(t_ns, now, f"{cause}; commands resume after ~/reset_stop.")
        self._stop_cause = ""
        if now.missing:
            return self._react_to_missing(t_ns, now)
        return self._stop_for(t_ns, now, now.problem) if now.problem else self._execute(t_ns, now)

    def _stop_for(self, t_ns: int, now: Situation, message: str) -> ControlOutput:
        """Stop for a cause after which what was decided must not resume."""
        self._executor.clear()
        return self._react(t_ns, now, ControlState.STOPPED, message)

    def _execute(self, t_ns: int, now: Situation) -> ControlOutput:
        execution = self._executor.command_at(t_ns)
        if execution.status is ExecutionStatus.WAITING:
            return self._react(t_ns, now, ControlState.WAITING, "No action chunk yet.")
        if execution.status is ExecutionStatus.ZERO:
            text = "The newest action chunk has ended: inference is too slow; holding still."
            return self._react(t_ns, now, ControlState.HOLDING, text)
        if execution.command is None or execution.chunk is None:
            return self._react(
                t_ns, now, ControlState.STOPPED, "The newest action chunk has ended: inference is too slow."
            )
        command = execution.command
        if self._tracker is not None:
            base = None if now.measured is None else now.measured.base
            if base is None:
                return self._stop_for(t_ns, now, "Where the base is, is not measured; it cannot follow a trajectory.")
            command = self._tracker.command(command, execution.chunk, base)
        return self._give(command, execution.chunk, execution, now)

    def halt(self, t_ns: int, measured: Measured | None = None) -> ControlOutput:
        """Return zero motion if the robot may be moving: control ends here."""
        self._seeded = False
        return self._quiet(t_ns, Situation(measured=measured))

    def _give(self, command: Command, chunk: ActionChunk, execution: Execution, now: Situation) -> ControlOutput:
        """Pass the policy's command through the safety filter."""
        if now.enabled and not self._seeded:
            self._safety.seed(now.measured)
            self._seeded = True
        look = self._safety.filter if now.enabled else self._safety.preview
        filtered = look(command, now.measured)
        self.interventions += bool(filtered.interventions)
        if filtered.command is None:
            return self._drop(command.effect_ns, filtered.interventions, now)
        new_chunk = self._new_chunk(chunk, now)
        running = execution.status is ExecutionStatus.RUNNING
        self.status = ControlStatus(
            ControlState.RUNNING if running else ControlState.HOLDING,
            "" if running else "The newest action chunk has ended: repeating its last step.",
        )
        if not now.enabled:
            quiet = self._quiet(command.effect_ns, now)
            self._seeded = False
            if quiet.command is not None:  # control was just taken away from a moving robot
                return quiet
            return ControlOutput(None, new_chunk, moves=False)
        self.commands += 1
        self._moving = True
        return ControlOutput(filtered.command, new_chunk, decided=True)

    def _new_chunk(self, chunk: ActionChunk, now: Situation) -> ActionChunk | None:
        """Return the chunk as the filter bounds it, the first time that it is in force."""
        if chunk.chunk_id <= self._published_chunk:
            return None
        self._published_chunk = chunk.chunk_id
        if self._tracker is not None and now.measured is not None and now.measured.base is not None:
            return self._tracker.bounded(chunk, now.measured.base)
        bounded, _ = self._safety.filter_chunk(chunk, now.measured)
        return bounded

    def _drop(self, t_ns: int, reasons: tuple[str, ...], now: Situation) -> ControlOutput:
        reasons = tuple(reason for reason in reasons if reason in DROPPING)
        for reason in reasons:
            self.dropped[reason] = self.dropped.get(reason, 0) + 1
        text = "; ".join(REASONS.get(reason, reason) for reason in reasons)
        message = f"The safety filter dropped the command ({', '.join(reasons)}): {text}."
        if FOLLOWING_ERROR in reasons:  # the robot does not do what it is told: no going on by itself
            self._stop_cause = message.removesuffix(".")
            self._safety.stop.latch()
        return self._react(t_ns, now, ControlState.STOPPED, message)

    def _react_to_missing(self, t_ns: int, now: Situation) -> ControlOutput:
        """React as the contract says for the gravest of the missing inputs."""
        self._executor.clear()  # when the input returns, what was decided before it went must not resume
        reactions = {item.on_missing for item in now.missing}
        cause = "; ".join(map(str, now.missing))
        if "abort" in reactions:
            self.must_abort = True
            return self._react(t_ns, now, ControlState.STOPPED, f"Deactivating: {cause}.")
        if "stop" in reactions:
            never = self.commands == 0 and not self._moving
            state = ControlState.WAITING if never else ControlState.STOPPED
            return self._react(t_ns, now, state, f"{cause}; commands resume when it returns.")
        return self._react(t_ns, now, ControlState.HOLDING, f"{cause}; holding still until it returns.")

    def _react(self, t_ns: int, now: Situation, state: ControlState, message: str) -> ControlOutput:
        """Hold still by commands, or command zero motion once and then nothing."""
        self.status = ControlStatus(state, message, now.missing)
        self._seeded = False
        if state is ControlState.HOLDING and now.enabled:
            return self._zero(t_ns, now)
        return self._quiet(t_ns, now)

    def _quiet(self, t_ns: int, now: Situation) -> ControlOutput:
        """Command zero motion if the robot may be moving, even when control was just disabled; then nothing more."""
        if not self._moving:
            return ControlOutput(moves=now.enabled)
        self._moving = False
        return self._zero(t_ns, now)

    def _zero(self, t_ns: int, now: Situation) -> ControlOutput:
        """Return zero motion. It passes no filter: none may forbid standing still."""
        action = self._safety.hold_action(now.measured)
        if action is None:
            return ControlOutput()
        self._safety.note_standstill(t_ns)
        command = Command(action, t_ns, self._executor.period_ns)
        chunk = None
        if self._published_chunk:  # whoever executes a chunk by itself must be told that it is void
            self._published_chunk = 0
            stay: NDArray[np.float64] | None = action
            if self._tracker is not None:  # a trajectory that stays where the base is
                stay = None if now.measured is None else now.measured.base
            if stay is not None:
                chunk = ActionChunk(stay[None].copy(), t_ns, self._executor.period_ns, chunk_id=0)
        return ControlOutput(command, chunk)
