"""The last word on every command: finite, within limits, slow enough, inside the workspace, not after a stop.

Deterministic: the result depends on the contract, the commands before and the arguments. No clock, no ROS.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command, ContractError
from vla_ros.data_types.rotations import convert, from_quaternion, inverse, multiply, slerp, to_quaternion
from vla_ros.safety.limits import Vector, clamp, limit_change, limit_length, limit_to_box

STOP_LATCHED = "stop_latched"
NOT_FINITE = "not_finite"
DEGENERATE_ROTATION = "degenerate_rotation"
POSITION_UNKNOWN = "position_unknown"
LIMIT = "limit"
SPEED = "speed"
ANGULAR_SPEED = "angular_speed"
ACCELERATION = "acceleration"
WORKSPACE = "workspace"

_MEMORY_NS = NANOSECONDS // 4
"""After a pause this long the robot has halted by itself, and the next command starts from standstill."""


@dataclass(frozen=True)
class FilterResult:
    """What is left of a command.

    Attributes:
        command: The command to give, or None when it must not be given.
        interventions: Names of what was done to it, in order; empty when it passed unchanged.
    """

    command: Command | None
    interventions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Previous:
    """The last command that passed, as the next one is measured against it."""

    action: NDArray[np.float64]
    velocity: Vector  # m/s
    effect_ns: int


class SafetyFilter:
    """Holds the bounds of `LimitsSpec` and the stop latch.

    A command is dropped whole while a stop is latched, when one of its numbers is not finite, when its rotation stands
    for none, and when a workspace is set for displacements or twists but the position is not known. Otherwise its
    numbers are clamped to their ranges; the speed is reduced keeping the direction; the acceleration is limited,
    braking excepted; and motion out of the workspace is removed axis by axis.

    Args:
        contract: The robot's contract.

    Raises:
        ContractError: A motion number's range excludes zero: the robot could never be told to stand still.
    """

    def __init__(self, contract: RobotContract) -> None:
        self._action = contract.action
        limits = contract.action.limits
        self._limits = limits
        self._lower, self._upper = np.array(limits.lower), np.array(limits.upper)
        self._box = (np.array(limits.workspace_min), np.array(limits.workspace_max)) if limits.workspace_min else None
        self._is_relative = contract.action.representation in ("displacement", "twist")
        self._previous: _Previous | None = None
        self._stopped = False
        self.counts: Counter[str] = Counter()
        if self._is_relative:
            for index, name in enumerate(contract.action.names[:3]):
                if limits.lower and not limits.lower[index] <= 0.0 <= limits.upper[index]:
                    raise ContractError(
                        f"{contract.source}: action.limits of '{name}' are {limits.lower[index]:g} to "
                        f"{limits.upper[index]:g} and exclude zero; the robot could never be told to stand still."
                    )

    @property
    def needs_position(self) -> bool:
        """Whether `filter` must be told where the end effector is."""
        return self._box is not None and self._is_relative

    @property
    def stopped(self) -> bool:
        """Whether a stop is latched."""
        return self._stopped

    @property
    def last_action(self) -> NDArray[np.float64] | None:
        """float64 [A], the last action that passed; None before the first. A pause does not forget it."""
        return None if self._previous is None else self._previous.action

    def latch_stop(self) -> None:
        """Drop every command from now on, until `reset_stop`."""
        self._stopped = True

    def reset_stop(self) -> None:
        """Let commands pass again."""
        self._stopped = False

    def reset(self) -> None:
        """Forget the previous command: time went back or another robot state begins. The stop latch and counts stay."""
        self._previous = None

    def note_standstill(self, effect_ns: int) -> None:
        """Say that the robot was told to stand still at `effect_ns`; the next acceleration starts from there."""
        if self._previous is not None:
            self._previous = replace(
                self._previous, velocity=np.zeros_like(self._previous.velocity), effect_ns=effect_ns
            )

    def filter(self, command: Command, position_xyz: NDArray[np.generic] | None = None) -> FilterResult:
        """Bound one command. Remembers what passed, as the base of the next acceleration.

        Args:
            command: The command, its action float64 [A] in the contract's units.
            position_xyz: [3], measured position of the end effector in the base frame, m.

        Returns:
            The command to give, and what was done to it. Everything done is also counted in `counts`.
        """
        position = None if position_xyz is None else np.asarray(position_xyz, dtype=np.float64)
        action, interventions = self._bounded(command, position)
        self.counts.update(interventions)
        if action is None:
            return FilterResult(None, interventions)
        return FilterResult(command if action is command.action else replace(command, action=action), interventions)

    def filter_chunk(
        self, chunk: ActionChunk, position_xyz: NDArray[np.generic] | None = None
    ) -> tuple[ActionChunk | None, tuple[str, ...]]:
        """Bound every step of a chunk, for receivers that execute it on their own.

        The steps are bounded one after the other from the present state, which the call does not change. A step that
        must be dropped ends the chunk before it.

        Returns:
            The chunk to give, None when its first step was dropped; and the names of everything done to it.
        """
        kept, names = self._previous, dict[str, None]()
        position: Vector | None = None if position_xyz is None else np.array(position_xyz, dtype=np.float64)
        actions: list[NDArray[np.float64]] = []
        for step, wanted in enumerate(chunk.actions_HA):
            command = Command(wanted, chunk.observation_stamp_ns + step * chunk.period_ns, chunk.period_ns)
            action, interventions = self._bounded(command, position)
            names.update(dict.fromkeys(interventions))
            if action is None:
                break
            actions.append(action)
            if position is not None and self._is_relative and self._previous is not None:
                position = position + self._previous.velocity * (chunk.period_ns / NANOSECONDS)
        self._previous = kept
        self.counts.update(names.keys())
        return (replace(chunk, actions_HA=np.stack(actions)) if actions else None), tuple(names)

    def _bounded(self, command: Command, position: Vector | None) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
        refusal = self._refusal(command, position)
        if refusal:
            return None, (refusal,)
        done: list[str] = []
        action: NDArray[np.float64] = command.action
        if len(self._lower):
            action = _noted(clamp(action, self._lower, self._upper), action, LIMIT, done)
        velocity: Vector = np.zeros(0)
        if self._action.representation == "joint_position":
            action = self._bound_joints(action, command, done)
        else:
            action, velocity = self._bound_translation(action, command, position, done)
            action = self._bound_rotation(action, command, done)
        self._previous = _Previous(action, velocity, command.effect_ns)
        return action, tuple(done)

    def _refusal(self, command: Command, position: Vector | None) -> str:
        """Name what forbids the command altogether, or return an empty string."""
        if self._stopped:
            return STOP_LATCHED
        if not np.isfinite(command.action).all():
            return NOT_FINITE
        if self.needs_position and (position is None or not np.isfinite(position).all()):
            return POSITION_UNKNOWN
        if self._action.rotation in ("quaternion", "rot6d"):
            try:
                to_quaternion(command.action[self._action.rotation_slice], self._action.rotation)
            except ValueError:
                return DEGENERATE_ROTATION
        return ""

    def _recent(self, command: Command) -> tuple[_Previous | None, float]:
        """The previous command while it still moves the robot, and the time in s in which the motion may change."""
        previous, period_s = self._previous, command.period_ns / NANOSECONDS
        if previous is None or not 0 <= command.effect_ns - previous.effect_ns <= _MEMORY_NS:
            return None, period_s
        elapsed_s = (command.effect_ns - previous.effect_ns) / NANOSECONDS
        return previous, min(elapsed_s, period_s)

    def _bound_translation(
        self, action: NDArray[np.float64], command: Command, position: Vector | None, done: list[str]
    ) -> tuple[NDArray[np.float64], Vector]:
        """Bound the first three numbers as a velocity; return the action and that velocity."""
        previous, elapsed_s = self._recent(command)
        period_s = command.period_ns / NANOSECONDS
        wanted: Vector = action[:3]
        if self._is_relative:
            origin: Vector = np.zeros(3)
            time_s = period_s if self._action.representation == "displacement" else 1.0
        else:
            if self._box is not None:
                wanted = _noted(clamp(wanted, *self._box), wanted, WORKSPACE, done)
            reference = self._previous.action[:3] if self._previous is not None else position
            if reference is None or elapsed_s <= 0.0:
                return _with(action, slice(0, 3), wanted), np.zeros(3)
            origin, time_s = reference, elapsed_s
        before: Vector = (wanted - origin) / time_s
        velocity: Vector = before
        if self._limits.max_speed is not None:
            velocity = _noted(limit_length(velocity, self._limits.max_speed), velocity, SPEED, done)
        if self._limits.max_acceleration is not None:
            base = np.zeros(3) if previous is None else previous.velocity
            change = self._limits.max_acceleration * elapsed_s
            velocity = _noted(limit_change(velocity, base, change), velocity, ACCELERATION, done)
        if self._box is not None and self._is_relative and position is not None:
            velocity = _noted(limit_to_box(velocity, position, *self._box, period_s), velocity, WORKSPACE, done)
        bounded = wanted if velocity is before else origin + velocity * time_s
        return _with(action, slice(0, 3), bounded), velocity

    def _bound_rotation(self, action: NDArray[np.float64], command: Command, done: list[str]) -> NDArray[np.float64]:
        """Bound the turning speed; the axis of the turn stays."""
        spec, maximum = self._action, self._limits.max_angular_speed
        if spec.rotation == "none" or maximum is None:
            return action
        part, period_s = spec.rotation_slice, command.period_ns / NANOSECONDS
        if spec.representation == "twist":
            limited = limit_length(action[part], maximum)
        elif spec.representation == "displacement":
            turn = convert(action[part], spec.rotation, "rotation_vector")
            shorter = limit_length(turn, maximum * period_s)
            limited = action[part] if shorter is turn else convert(shorter, "rotation_vector", spec.rotation)
        elif self._previous is not None:
            allowed = maximum * self._recent(command)[1]
            limited = _turned_towards(self._previous.action[part], action[part], allowed, spec.rotation)
        else:
            return action
        bounded = _with(action, part, limited)
        return _noted(bounded, action, ANGULAR_SPEED, done)

    def _bound_joints(self, action: NDArray[np.float64], command: Command, done: list[str]) -> NDArray[np.float64]:
        """Bound the fastest joint's speed; all joints slow down together, so the path stays."""
        maximum = self._limits.max_angular_speed
        if maximum is None or self._previous is None:
            return action
        joints = np.arange(len(action)) != self._action.gripper_index
        step = np.where(joints, action - self._previous.action, 0.0)
        fastest, allowed = float(np.abs(step).max()), maximum * self._recent(command)[1]
        if fastest <= allowed * (1.0 + 1e-9):
            return action
        done.append(ANGULAR_SPEED)
        return np.where(joints, self._previous.action + step * (allowed / fastest), action)


def _turned_towards(start: Vector, end: Vector, allowed: float, form: str) -> Vector:
    """Turn from one orientation towards another by at most `allowed` rad; `end` itself when it is that near."""
    first, last = to_quaternion(start, form), to_quaternion(end, form)
    angle = float(np.linalg.norm(from_quaternion(multiply(inverse(first), last), "rotation_vector")))
    if angle <= allowed * (1.0 + 1e-9):
        return end
    return from_quaternion(slerp(first, last, allowed / angle), form)


def _noted(bounded: Vector, before: Vector, name: str, done: list[str]) -> Vector:
    """Note an intervention when the bounded vector is another one than before."""
    if bounded is not before:
        done.append(name)
    return bounded


def _with(action: NDArray[np.float64], part: slice, values: Vector) -> NDArray[np.float64]:
    """Return the action with some numbers replaced, the same object when nothing changes."""
    if np.array_equal(action[part], values):
        return action
    changed = action.copy()
    changed[part] = values
    return changed
