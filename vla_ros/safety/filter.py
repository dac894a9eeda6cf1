"""The last word on every command: finite, within limits, slow enough, inside the workspace, not after a stop.

Deterministic: the result depends on the contract, the commands and measurements before and the arguments. No clock,
no ROS.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import MeasurementSpec, RobotContract
from vla_ros.contract.measurement import RELATIVE
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command
from vla_ros.safety.bounds import Bounds, bounds_of, check_bounds
from vla_ros.safety.joint_motion import JointMotion
from vla_ros.safety.limits import clamp
from vla_ros.safety.measured import Measured, cleaned, unit_quaternion, usable
from vla_ros.safety.motion import Motion, Span, normalised, noted
from vla_ros.safety.planar_motion import PlanarMotion
from vla_ros.safety.pose_motion import PoseMotion
from vla_ros.safety.reasons import (
    DEGENERATE_ROTATION,
    FOLLOWING_ERROR,
    LIMIT,
    NOT_FINITE,
    POSITION_UNKNOWN,
    STOP_LATCHED,
)
from vla_ros.safety.reference import FilterState, Reference, seeded, with_trail
from vla_ros.safety.relative_motion import RelativeMotion
from vla_ros.safety.stop_latch import StopLatch

_PAUSE_NS = NANOSECONDS // 4
"""After a pause this long, or of three periods, the robot has halted by itself: the reference is taken anew."""
_KINDS: dict[str, Callable[[RobotContract, Bounds, MeasurementSpec], Motion]] = {
    "displacement": RelativeMotion,
    "twist": RelativeMotion,
    "pose": PoseMotion,
    "joint_position": JointMotion,
    "planar_twist": PlanarMotion,
}


@dataclass(frozen=True)
class FilterResult:
    """What is left of a command.

    Attributes:
        command: The command to give, or None when it must not be given.
        interventions: Names of what was done to it, in order; empty when it passed unchanged. See `REASONS`.
    """

    command: Command | None
    interventions: tuple[str, ...] = ()


class SafetyFilter:
    """Holds the bounds of `LimitsSpec`; what it does in which order is written in docs/safety.md.

    Args:
        contract: The robot's contract.
        stop: The robot's stop latch; None makes one of its own.
        require_measurement: Drop a command when the contract says where the robot's state is measured and it is not
            known. Otherwise a pose or joint command is then measured against what was commanded before, and the first
            one is taken for where the robot is.

    Attributes:
        stop: The latch: while it is set, every command is dropped.
        counts: How often each intervention was made.

    Raises:
        ContractError: The contract's limits cannot be held; see `check_bounds`.
    """

    def __init__(
        self, contract: RobotContract, stop: StopLatch | None = None, *, require_measurement: bool = False
    ) -> None:
        self._spec = contract.action
        sources = check_bounds(contract)
        self._bounds = bounds_of(contract)
        self._motion = _KINDS[contract.action.representation](contract, self._bounds, sources)
        self.stop = StopLatch() if stop is None else stop
        self._require = require_measurement or contract.action.representation in RELATIVE
        self._state = FilterState()
        self.counts: Counter[str] = Counter()

    @property
    def needs_measurement(self) -> bool:
        """Whether `filter` should be told the measured state: the limits use it and the contract says where it is."""
        return self._motion.measures

    @property
    def last_action(self) -> NDArray[np.float64] | None:
        """float64 [A], the last action that passed; None before the first. A pause does not forget it."""
        return self._state.last_action

    def reset(self) -> None:
        """Forget all commands: another robot state begins. The stop latch and counts stay."""
        self._state = FilterState()

    def forget_times(self) -> None:
        """Time went back: forget when and how fast it was commanded, and keep where, which is to stand still."""
        old = self._state
        reference = old.reference
        if reference is not None:
            still = np.zeros_like
            reference = replace(
                reference,
                velocity=still(reference.velocity),
                turn=still(reference.turn),
                joint_velocity=still(reference.joint_velocity),
                effect_ns=None,
                period_s=0.0,
                trail_ns=(),
                trail=None,
            )
        self._state = FilterState(reference=reference, last_action=old.last_action)

    def seed(self, measured: Measured | None) -> None:
        """Begin anew where the robot is measured: at rest, with no command before. Ends the fault of not following.

        To be called at activation and after every pause, stop, dry run, dropout and fault.

        Args:
            measured: The newest measurement; None takes the one that comes with the next command.
        """
        known = self._cleaned(measured)
        reference = None if measured is None else seeded(known, None, len(self._spec.names))
        self._state = FilterState(reference=reference, last_action=self._state.last_action)

    def note_standstill(self, effect_ns: int) -> None:
        """Say that the robot was told to stand still at `effect_ns`; the next acceleration starts from there."""
        reference = self._state.reference
        if reference is None or reference.effect_ns is None or effect_ns < reference.effect_ns:
            return
        reference = self._motion.at(reference, effect_ns)
        still = replace(
            reference,
            velocity=np.zeros(3),
            turn=np.zeros(3),
            joint_velocity=np.zeros_like(reference.joint_velocity),
            effect_ns=effect_ns,
        )
        self._state = replace(self._state, reference=still, before=still)

    def filter(self, command: Command, measured: Measured | NDArray[np.generic] | None = None) -> FilterResult:
        """Bound one command. What passed is what the next one is measured against.

        Args:
            command: The command, its action float64 [A] in the contract's units.
            measured: The newest measurement. A bare array is the position [3] of the end effector in the base frame,
                m, or the joints [A].

        Returns:
            The command to give, and what was done to it. Everything done is also counted in `counts`.
        """
        result, self._state = self._filtered(self._state, command, self._cleaned(measured))
        self.counts.update(result.interventions)
        return result

    def preview(self, command: Command, measured: Measured | NDArray[np.generic] | None = None) -> FilterResult:
        """Return what `filter` would, and change nothing: neither the reference nor the counts."""
        return self._filtered(self._state, command, self._cleaned(measured))[0]

    def filter_chunk(
        self, chunk: ActionChunk, measured: Measured | NDArray[np.generic] | None = None
    ) -> tuple[ActionChunk | None, tuple[str, ...]]:
        """Bound every step of a chunk, for receivers that execute it on their own. Changes nothing in the filter.

        The steps are bounded one after the other from the present state, as if the robot followed exactly. Steps that
        are already past lead nowhere: a pose or joints stay where the robot was told to be. A step that must be
        dropped ends the chunk before it.

        Returns:
            The chunk to give, None when its first step was dropped; and the names of everything done to it.
        """
        state, known = self._state, self._cleaned(measured)
        names = dict[str, None]()
        actions: list[NDArray[np.float64]] = []
        for step, wanted in enumerate(chunk.actions_HA):
            command = Command(wanted, chunk.observation_stamp_ns + step * chunk.period_ns, chunk.period_ns)
            reference = state.reference
            past = reference is not None and reference.effect_ns is not None
            past = past and command.effect_ns <= reference.effect_ns  # type: ignore[union-attr, operator]
            result, after = self._filtered(state, command, known, past=past)
            names.update(dict.fromkeys(result.interventions))
            if result.command is None:
                break
            actions.append(result.command.action)
            if not past and after.reference is not None:
                state, reference = after, after.reference
                known = self._motion.after(reference, known, self._span(reference, command, past=False))
        return (replace(chunk, actions_HA=np.stack(actions)) if actions else None), tuple(names)

    def hold_action(self, measured: Measured | NDArray[np.generic] | None = None) -> NDArray[np.float64] | None:
        """Return what to command to stand still now; it passes no filter, since nothing may forbid standing still.

        A displacement or a twist becomes zero with the gripper as it was last commanded. A pose or joint positions are
        where the robot was last told to be, if it is within the following error of that, and where it is measured
        otherwise: never a target far from where it is.

        Returns:
            float64 [A], or None where it is not known: nothing was commanded and nothing is measured.
        """
        return self._motion.hold(self._state.reference, self._state.last_action, self._cleaned(measured))

    def _cleaned(self, measured: Measured | NDArray[np.generic] | None) -> Measured:
        return cleaned(measured, len(self._spec.names), joints=self._spec.representation == "joint_position")

    def _filtered(
        self, state: FilterState, command: Command, measured: Measured, *, past: bool = False
    ) -> tuple[FilterResult, FilterState]:
        """Bound one command from a state; return the result and the state after it.

        Args:
            state: The state before.
            command: The command.
            measured: What is known of the measured state.
            past: Whether the command is a step of a chunk whose time is over.
        """
        done: list[str] = []
        action: NDArray[np.float64] = np.asarray(command.action, dtype=np.float64)
        refusal = self._refusal(state, action, measured)
        if refusal:
            return FilterResult(None, (refusal,)), state
        action = normalised(action, self._spec)
        if self._bounds.has_ranges:
            action = noted(clamp(action, self._bounds.lower, self._bounds.upper), action, LIMIT, done)
        base = self._base(state, command, measured, past=past)
        span = self._span(base, command, past=past)
        refusal = self._motion.refusal(base, measured, span)
        if refusal:
            return FilterResult(None, (refusal,)), replace(state, faulted=refusal == FOLLOWING_ERROR)
        action, after = self._motion.bounded(action, base, measured, span, done)
        after = with_trail(replace(after, effect_ns=command.effect_ns, period_s=span.period_s), command.effect_ns)
        names = tuple(dict.fromkeys(done))
        result = FilterResult(command if action is command.action else replace(command, action=action), names)
        return result, FilterState(after, base, action, command.effect_ns)

    def _refusal(self, state: FilterState, action: NDArray[np.float64], measured: Measured) -> str:
        """Name what forbids the command before its motion is looked at, or return an empty string."""
        if self.stop.latched:
            return STOP_LATCHED
        if not usable(action):
            return NOT_FINITE
        if self._spec.rotation in ("quaternion", "rot6d"):  # any rotation vector is a rotation
            rotation = unit_quaternion(action[self._spec.rotation_slice], self._spec.rotation)
            if rotation is None:
                return DEGENERATE_ROTATION
        if state.faulted:
            return FOLLOWING_ERROR
        return POSITION_UNKNOWN if self._require and self._motion.unknown(measured) else ""

    def _base(self, state: FilterState, command: Command, measured: Measured, *, past: bool) -> Reference:
        """Return the reference that a command is measured against."""
        action_dim = len(self._spec.names)
        reference = state.reference
        if reference is None or reference.effect_ns is None:  # nothing was commanded: it is where it is measured
            return seeded(measured, reference, action_dim)
        if past:
            return reference
        if command.effect_ns == reference.effect_ns and state.before is not None:
            return state.before
        passed_ns = reference.effect_ns if state.passed_ns is None else state.passed_ns
        paused_ns = max(_PAUSE_NS, 3 * command.period_ns)
        if command.effect_ns < reference.effect_ns or command.effect_ns - passed_ns > paused_ns:
            return seeded(measured, reference, action_dim)
        return reference

    def _span(self, base: Reference, command: Command, *, past: bool) -> Span:
        control_s = self._bounds.control_s
        period_s = command.period_ns / NANOSECONDS if command.period_ns > 0 else control_s
        elapsed_s = control_s
        if base.effect_ns is not None:
            elapsed_s = (command.effect_ns - base.effect_ns) / NANOSECONDS
        return Span(command.effect_ns, period_s, 0.0 if past else min(elapsed_s, period_s))
