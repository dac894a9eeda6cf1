"""Which action is due at a moment, from chunks indexed by time. Knows no policy, no message and no clock.

A chunk belongs to the observation it was decided on: its step k is due at ``observation_stamp + k * period``. At time t
the executor takes step ``floor((t - observation_stamp) / period)``, so the time that inference took is accounted for
by the index and never by a queue that runs late.

A chunk of a single step would always have expired when it arrives, since a prediction takes time. Its step is due for
one period from its arrival instead.
"""

import threading
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ActionSpec
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command, ConfigError, nearest_name
from vla_ros.data_types.rotations import from_quaternion, to_quaternion

ExecutionMode = Literal["latest", "receding_horizon", "temporal_ensemble"]
EXECUTION_MODES: tuple[str, ...] = get_args(ExecutionMode)


class ExecutionStatus(Enum):
    """What the executor found at a moment."""

    RUNNING = "running"  # a step of a chunk is due
    WAITING = "waiting"  # there is no chunk
    HOLDING = "holding"  # past the chunk's end: its last step, for the contract's max_hold_s
    ZERO = "zero"  # past the chunk's end: no motion
    STOPPED = "stopped"  # past the chunk's end: no command


@dataclass(frozen=True)
class Execution:
    """What to do at a moment.

    Attributes:
        command: The action due, or None when there is none to give.
        status: Why.
        chunk: The newest chunk that the command comes from, or that ended; None while there is none.
    """

    command: Command | None
    status: ExecutionStatus
    chunk: ActionChunk | None = None


@dataclass(frozen=True)
class _Held:
    """A chunk, and when its step 0 is due."""

    chunk: ActionChunk
    start_ns: int

    @property
    def end_ns(self) -> int:
        """Moment from which the chunk says nothing more."""
        return self.start_ns + len(self.chunk.actions_HA) * self.chunk.period_ns

    @property
    def order(self) -> tuple[int, int]:
        """Which of two chunks is newer."""
        return (self.chunk.observation_stamp_ns, self.chunk.chunk_id)

    def index(self, t_ns: int) -> int:
        """Step that is due at a moment."""
        return (t_ns - self.start_ns) // self.chunk.period_ns

    def command(self, t_ns: int, action: NDArray[np.float64], index: int) -> Command:
        """The command that an action of this chunk makes."""
        chunk = self.chunk
        return Command(action, t_ns, chunk.period_ns, chunk.observation_stamp_ns, chunk.chunk_id, index)


class ChunkExecutor:
    """Turns action chunks into the command due at a moment.

    One thread may `submit` and any thread `clear` while another asks `command_at`: the chunks are an immutable tuple
    behind one reference, so the asking thread takes no lock.

    Args:
        action: The robot's action; decides what happens past a chunk's end and how rotations blend.
        fps: Steps per second; the period of commands given without a chunk.
        mode: ``latest`` follows the newest chunk. ``receding_horizon`` follows a chunk for `n_action_steps` periods
            before it turns to the newest one. ``temporal_ensemble`` averages all chunks that reach this moment with
            weights ``exp(-ensemble_decay * i)``, i = 0 the oldest; rotations on SO(3).
        n_action_steps: Of ``receding_horizon``; None follows a chunk to its end.
        ensemble_decay: Of ``temporal_ensemble``; larger trusts older chunks more, 0 is the plain mean.

    Raises:
        ConfigError: The mode is unknown or a number is out of range.
    """

    def __init__(
        self,
        action: ActionSpec,
        fps: int,
        mode: str = "latest",
        *,
        n_action_steps: int | None = None,
        ensemble_decay: float = 0.01,
    ) -> None:
        if mode not in EXECUTION_MODES:
            hint = nearest_name(mode, EXECUTION_MODES)
            raise ConfigError(f"chunk mode '{mode}' is not one of {', '.join(EXECUTION_MODES)}.{hint}")
        if mode == "temporal_ensemble" and action.representation == "trajectory":
            raise ConfigError(
                "chunk mode 'temporal_ensemble' averages single steps, and a trajectory is followed as a whole."
            )
        if ensemble_decay < 0:
            raise ConfigError(f"ensemble_decay={ensemble_decay} must not be negative.")
        self._action = action
        self._period_ns = NANOSECONDS // fps
        self._mode = mode
        self._n_action_steps = None if n_action_steps is None else _checked_steps(n_action_steps)
        self._ensemble_decay = ensemble_decay
        self._lock = threading.Lock()
        self._chunks: tuple[_Held, ...] = ()  # by observation stamp, the newest last
        self._followed: tuple[_Held, int] | None = None  # of receding_horizon: chunk, first index executed

    @property
    def period_ns(self) -> int:
        """Time between steps, ns."""
        return self._period_ns

    def follow(self, n_action_steps: int) -> None:
        """Change how many steps ``receding_horizon`` follows a chunk: another policy's chunks come from now on.

        Raises:
            ConfigError: Fewer than one.
        """
        self._n_action_steps = _checked_steps(n_action_steps)

    @property
    def newest(self) -> ActionChunk | None:
        """The newest chunk, or None."""
        chunks = self._chunks
        return chunks[-1].chunk if chunks else None

    def submit(self, chunk: ActionChunk, arrival_ns: int | None = None) -> bool:
        """Make a chunk available.

        Args:
            chunk: The prediction.
            arrival_ns: When it became available, which is when a chunk of one step is due; None: at its observation.

        Returns:
            Whether it was taken. A chunk of an older observation than the newest one's never replaces it; one of the
            same observation does when it was predicted later.

        Raises:
            ValueError: The chunk's actions are not those of this robot; see `chunk_problem` for numbers that are none.
        """
        if chunk.actions_HA.shape[1] != len(self._action.names):
            raise ValueError(f"chunk has {chunk.actions_HA.shape[1]} numbers per action, not {len(self._action.names)}")
        start_ns = chunk.observation_stamp_ns
        if len(chunk.actions_HA) == 1 and arrival_ns is not None:
            start_ns = max(start_ns, arrival_ns)
        held = _Held(chunk, start_ns)
        with self._lock:
            kept = self._chunks
            if kept and held.order <= kept[-1].order:
                return False
            # Time only goes on from the newest observation: chunks that end before it will never be asked for again.
            seen_ns = chunk.observation_stamp_ns
            older = tuple(h for h in kept if h.chunk.observation_stamp_ns != seen_ns and h.end_ns > seen_ns)
            self._chunks = (*older, held)
            return True

    def clear(self) -> None:
        """Forget all chunks: a new episode or goal, or time went back."""
        with self._lock:
            self._chunks = ()

    def command_at(self, t_ns: int) -> Execution:
        """Return the command due at `t_ns`, the moment at which it will take effect.

        The time asked for must not go back between calls; `clear` when it does.
        """
        chunks = tuple(held for held in self._chunks if held.start_ns <= t_ns)
        if not chunks:
            return Execution(None, ExecutionStatus.WAITING)
        newest = self._follow(chunks, t_ns) if self._mode == "receding_horizon" else chunks[-1]
        reaching = [h for h in chunks if t_ns < h.end_ns] if self._mode == "temporal_ensemble" else [newest]
        if not reaching or t_ns >= reaching[-1].end_ns:
            return self._past_end(newest, t_ns)
        held = reaching[-1]
        actions = [h.chunk.actions_HA[h.index(t_ns)] for h in reaching]
        action = actions[0] if len(actions) == 1 else self._ensemble(np.stack(actions))
        return Execution(held.command(t_ns, action, held.index(t_ns)), ExecutionStatus.RUNNING, held.chunk)

    def _follow(self, chunks: tuple[_Held, ...], t_ns: int) -> _Held:
        """Choose the chunk of ``receding_horizon``: the one followed so far, or the newest when its turn is over."""
        if self._followed is not None:
            held, first_index = self._followed
            length, index = len(held.chunk.actions_HA), held.index(t_ns)
            turn = length if self._n_action_steps is None else self._n_action_steps
            still_there = any(held is other for other in chunks)
            if still_there and index < min(first_index + turn, length):
                return held
        self._followed = (chunks[-1], chunks[-1].index(t_ns))
        return chunks[-1]

    def _ensemble(self, actions_NA: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average the actions of N chunks, the oldest first."""
        weights_N = np.exp(-self._ensemble_decay * np.arange(len(actions_NA)))
        weights_N /= weights_N.sum()
        mean_A = np.asarray(weights_N @ actions_NA, dtype=np.float64)
        rotation = self._action.rotation
        if rotation != "none" and self._action.representation != "twist":
            part = self._action.rotation_slice
            mean_A[part] = _mean_rotation(actions_NA[:, part], weights_N, rotation)
        return mean_A

    def _past_end(self, held: _Held, t_ns: int) -> Execution:
        """React as the contract says when the newest chunk is used up."""
        if self._action.past_end == "hold" and t_ns - held.end_ns < self._action.max_hold_s * NANOSECONDS:
            last = len(held.chunk.actions_HA) - 1
            action = held.chunk.actions_HA[last]
            return Execution(held.command(t_ns, action, last), ExecutionStatus.HOLDING, held.chunk)
        if self._action.past_end == "zero":
            return Execution(None, ExecutionStatus.ZERO, held.chunk)
        return Execution(None, ExecutionStatus.STOPPED, held.chunk)


def chunk_problem(action: ActionSpec, chunk: ActionChunk) -> str:
    """Return why no step of a chunk may move a robot, in a few words; empty when all may.

    A single number that is not finite makes the whole prediction doubtful, and a rotation that stands for none cannot
    be blended with those of other chunks.
    """
    finite = np.isfinite(chunk.actions_HA)
    if not finite.all():
        step, number = np.argwhere(~finite)[0]
        return f"'{action.names[number]}' of step {step} is {chunk.actions_HA[step, number]}, not a finite number"
    if action.rotation in ("quaternion", "rot6d"):
        try:
            to_quaternion(chunk.actions_HA[:, action.rotation_slice], action.rotation)
        except ValueError as reason:
            return str(reason)
    return ""


def _mean_rotation(values_NW: NDArray[np.float64], weights_N: NDArray[np.float64], form: str) -> NDArray[np.float64]:
    """Weighted mean on SO(3): the eigenvector of the largest eigenvalue of Σ w q qᵀ (Markley et al. 2007).

    A mean of the quaternions themselves would cancel q against -q, which stand for the same rotation.
    """
    quaternions_N4 = to_quaternion(values_NW, form)
    _, vectors = np.linalg.eigh(np.einsum("n,ni,nj->ij", weights_N, quaternions_N4, quaternions_N4))
    return from_quaternion(vectors[:, -1], form)


def _checked_steps(n_action_steps: int) -> int:
    if n_action_steps < 1:
        raise ConfigError(f"n_action_steps={n_action_steps} must be at least 1.")
    return n_action_steps
