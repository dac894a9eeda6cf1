"""Displacements and twists: motions from wherever the robot is."""

from dataclasses import replace

import numpy as np

from vla_ros.contract import MeasurementSpec, RobotContract
from vla_ros.data_types.rotations import convert, matrix_of_quaternion
from vla_ros.safety.bounds import Bounds
from vla_ros.safety.limits import Vector, limit_change, limit_length, towards_walls
from vla_ros.safety.measured import Measured
from vla_ros.safety.motion import Action, Span, gripper_known, noted, put
from vla_ros.safety.reasons import (
    ACCELERATION,
    ANGULAR_ACCELERATION,
    ANGULAR_SPEED,
    FOLLOWING_ERROR,
    LIMIT,
    SPEED,
    WORKSPACE,
)
from vla_ros.safety.reference import Reference, advanced, corrected

_NO_ROTATION: dict[str, tuple[float, ...]] = {
    "none": (),
    "rotation_vector": (0.0, 0.0, 0.0),
    "quaternion": (0.0, 0.0, 0.0, 1.0),
    "rot6d": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
}
_POINT = slice(0, 3)


class RelativeMotion:
    """Bounds displacements and twists.

    A workspace is held from two places at once, and the more restrictive one wins: where the robot is measured, which
    is late, and where the commands since the last seed have brought it, which is early. Both are in the base frame; a
    motion in the tool frame is turned there by the measured orientation, bounded, and turned back.

    Args:
        contract: The robot's contract.
        bounds: Its limits.
        sources: Where its state is measured; a box needs it wherever that is.
    """

    def __init__(self, contract: RobotContract, bounds: Bounds, sources: MeasurementSpec) -> None:  # noqa: ARG002
        self._spec, self._bounds = contract.action, bounds
        self._displaces = contract.action.representation == "displacement"
        self._in_tool = bounds.has_workspace and contract.action.frame == contract.tool_frame
        self._needs_position = bounds.has_workspace or bounds.faults_when_behind

    @property
    def measures(self) -> bool:
        """As `Motion.measures`."""
        return self._needs_position

    def unknown(self, measured: Measured) -> bool:
        """As `Motion.unknown`."""
        return (self._needs_position and measured.position is None) or (self._in_tool and measured.orientation is None)

    def refusal(self, reference: Reference, measured: Measured, span: Span) -> str:
        """As `Motion.refusal`."""
        if not self._bounds.faults_when_behind or measured.position is None:
            return ""
        now = self.at(reference, span.effect_ns).position
        behind = 0.0 if now is None else float(np.linalg.norm(now - measured.position))
        return FOLLOWING_ERROR if behind > self._bounds.following[0] else ""

    def bounded(
        self, action: Action, reference: Reference, measured: Measured, span: Span, done: list[str]
    ) -> tuple[Action, Reference]:
        """As `Motion.bounded`."""
        if self._needs_position and span.elapsed_s > 0.0:
            reference = self.at(reference, span.effect_ns)
            if measured.position is not None and not self._bounds.faults_when_behind:
                reference = corrected(reference, measured.position)
        action, velocity = self._bounded_velocity(action, reference, measured, span, done)
        action, turn = self._bounded_turn(action, reference, span, done)
        return action, replace(reference, velocity=velocity, turn=turn)

    def _bounded_velocity(
        self, action: Action, reference: Reference, measured: Measured, span: Span, done: list[str]
    ) -> tuple[Action, Vector]:
        """Return the action and its velocity in the base frame, or in its own where no box is held."""
        bounds, time_s = self._bounds, span.period_s if self._displaces else 1.0
        to_base = None
        if self._in_tool and measured.orientation is not None:
            to_base = matrix_of_quaternion(measured.orientation)
        before: Vector = action[_POINT] / time_s
        before = before if to_base is None else to_base @ before
        velocity = noted(limit_length(before, bounds.speed), before, SPEED, done)
        if bounds.acceleration < np.inf:
            change = bounds.acceleration * (span.elapsed_s or bounds.control_s)
            velocity = noted(limit_change(velocity, reference.velocity, change), velocity, ACCELERATION, done)
        if bounds.has_workspace:
            velocity = noted(self._inside(velocity, reference, measured, span), velocity, WORKSPACE, done)
        if velocity is before:
            return action, velocity
        own = (velocity if to_base is None else velocity @ to_base) * time_s
        if to_base is not None:  # an axis removed in the base frame may lengthen another one in the tool's
            ratio = self._range_ratio(own)
            if ratio < 1.0:
                done.append(LIMIT)
                own, velocity = own * ratio, velocity * ratio
        return put(action, _POINT, own), velocity

    def _inside(self, velocity: Vector, reference: Reference, measured: Measured, span: Span) -> Vector:
        bounds = self._bounds
        slowest, fastest = np.full(3, -np.inf), np.full(3, np.inf)
        for position in (reference.position, measured.position):
            if position is not None:
                low, high = towards_walls(position, bounds.box_low, bounds.box_high, span.period_s, bounds.acceleration)
                slowest, fastest = np.maximum(slowest, low), np.minimum(fastest, high)
        clamped = np.minimum(np.maximum(velocity, slowest), fastest)
        return velocity if (np.abs(clamped - velocity) <= 1e-12).all() else clamped

    def _range_ratio(self, own: Vector) -> float:
        """Return by how much a motion must be shortened to be within its numbers' ranges."""
        over = np.where(own > 0.0, self._bounds.upper[_POINT], self._bounds.lower[_POINT])
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.nanmin(np.where(own == 0.0, 1.0, over / own), initial=1.0))

    def _bounded_turn(self, action: Action, reference: Reference, span: Span, done: list[str]) -> tuple[Action, Vector]:
        """Bound the turning speed; the axis of the turn stays unless its acceleration is limited."""
        spec, bounds = self._spec, self._bounds
        if spec.rotation == "none":
            return action, reference.turn
        part, time_s = spec.rotation_slice, span.period_s if self._displaces else 1.0
        # A rotation vector is taken as it is: receivers divide it by the period, and a turn beyond π is one.
        turn = (
            action[part]
            if spec.rotation == "rotation_vector"
            else convert(action[part], spec.rotation, "rotation_vector")
        )
        before = turn / time_s
        velocity = noted(limit_length(before, bounds.turn_speed), before, ANGULAR_SPEED, done)
        if bounds.turn_acceleration < np.inf:
            change = bounds.turn_acceleration * (span.elapsed_s or bounds.control_s)
            velocity = noted(limit_change(velocity, reference.turn, change), velocity, ANGULAR_ACCELERATION, done)
        if velocity is before:
            return action, velocity
        own = velocity * time_s
        if spec.rotation != "rotation_vector":
            own = convert(own, "rotation_vector", spec.rotation)
        return put(action, part, own), velocity

    def at(self, reference: Reference, effect_ns: int) -> Reference:
        """As `Motion.at`: moved by what the last command commanded."""
        return advanced(reference, effect_ns, holds=not self._displaces)

    def after(self, reference: Reference, measured: Measured, span: Span) -> Measured:
        """As `Motion.after`: moved by the command."""
        turn = reference.turn
        if self._in_tool and measured.orientation is not None:
            turn = matrix_of_quaternion(measured.orientation) @ turn
        return measured.moved(reference.velocity, turn, span.period_s)

    def hold(self, reference: Reference | None, last: Action | None, measured: Measured) -> Action | None:  # noqa: ARG002
        """As `Motion.hold`: zero motion, the gripper as it was last commanded."""
        still = np.zeros(len(self._spec.names))
        still[self._spec.rotation_slice] = _NO_ROTATION[self._spec.rotation]
        return gripper_known(self._spec, still, last)
