"""Absolute poses: the filter moves a reference towards them, and the reference is what the robot is told."""

from dataclasses import replace

import numpy as np

from vla_ros.contract import MeasurementSpec, RobotContract
from vla_ros.data_types.rotations import from_quaternion, to_quaternion
from vla_ros.safety.bounds import Bounds
from vla_ros.safety.limits import Vector, clamp, limit_change, limit_length, towards_walls
from vla_ros.safety.measured import Measured
from vla_ros.safety.motion import Action, Span, gripper_known, noted, put, turn_between, turned
from vla_ros.safety.reasons import (
    ACCELERATION,
    ANGULAR_ACCELERATION,
    ANGULAR_SPEED,
    FOLLOWING_ERROR,
    LIMIT,
    OUTSIDE_RANGE,
    OUTSIDE_WORKSPACE,
    SPEED,
    WORKSPACE,
)
from vla_ros.safety.reference import Reference
from vla_ros.safety.reference_motion import TINY, ReferenceMotion

_POINT = slice(0, 3)


class PoseMotion(ReferenceMotion):
    """Bounds absolute poses.

    Args:
        contract: The robot's contract.
        bounds: Its limits.
        sources: Where its state is measured.
    """

    def __init__(self, contract: RobotContract, bounds: Bounds, sources: MeasurementSpec) -> None:
        super().__init__(contract, bounds)
        boxed = bool(np.isfinite(bounds.box_low).any() or np.isfinite(bounds.box_high).any())
        moves = bool(np.isfinite((bounds.speed, bounds.acceleration, bounds.following[0])).any())
        turns = bool(np.isfinite((bounds.turn_speed, bounds.turn_acceleration, bounds.turn_following)).any())
        self._measures_position = (boxed or moves) and sources.position is not None
        self._measures_turn = turns and self._spec.rotation != "none" and sources.orientation is not None

    @property
    def measures(self) -> bool:
        """As `Motion.measures`."""
        return self._measures_position or self._measures_turn

    def unknown(self, measured: Measured) -> bool:
        """As `Motion.unknown`."""
        return (self._measures_position and measured.position is None) or (
            self._measures_turn and measured.orientation is None
        )

    def refusal(self, reference: Reference, measured: Measured, span: Span) -> str:
        """As `Motion.refusal`."""
        bounds, position = self._bounds, measured.position
        if not self._follows(reference, measured):
            return FOLLOWING_ERROR
        if position is None:
            return ""
        inside = np.minimum(np.maximum(position, bounds.box_low), bounds.box_high)
        outside = float(np.linalg.norm(position - inside))
        if outside <= self._reach(bounds.speed, span):
            return ""
        return OUTSIDE_WORKSPACE if bounds.has_workspace else OUTSIDE_RANGE

    def _follows(self, reference: Reference, measured: Measured) -> bool:
        following, turn_following = float(self._bounds.following[0]), self._bounds.turn_following
        if following < np.inf and reference.position is not None and measured.position is not None:
            behind = reference.position - measured.position
            if behind @ behind > following * following:
                return False
        if turn_following < np.inf and reference.orientation is not None and measured.orientation is not None:
            turn = turn_between(measured.orientation, reference.orientation)
            return bool(turn @ turn <= turn_following * turn_following)
        return True

    def bounded(
        self,
        action: Action,
        reference: Reference,
        measured: Measured,  # noqa: ARG002
        span: Span,
        done: list[str],
    ) -> tuple[Action, Reference]:
        """As `Motion.bounded`."""
        wanted: Vector = action[_POINT]
        target = noted(
            clamp(wanted, self._bounds.box_low, self._bounds.box_high),
            wanted,
            WORKSPACE if self._bounds.has_workspace else LIMIT,
            done,
        )
        position, velocity = self._approached(target, reference, span, done)
        if position is not wanted:
            action = put(action, _POINT, position)
        reference = replace(reference, position=position.copy(), velocity=velocity)
        if self._spec.rotation == "none":
            return action, reference
        return self._turned(action, reference, span, done)

    def _approached(self, target: Vector, reference: Reference, span: Span, done: list[str]) -> tuple[Vector, Vector]:
        """Return the position after one command towards the target, and the velocity that leads there."""
        bounds, start = self._bounds, reference.position
        if start is None:
            return target, np.zeros(3)
        if span.elapsed_s <= 0.0:
            return np.clip(start, bounds.box_low, bounds.box_high), reference.velocity
        before = (target - start) / span.elapsed_s
        velocity = noted(limit_length(before, bounds.speed), before, SPEED, done)
        if bounds.acceleration < np.inf:
            change = bounds.acceleration * span.elapsed_s
            velocity = noted(limit_change(velocity, reference.velocity, change), velocity, ACCELERATION, done)
            velocity = noted(self._braked(velocity, start, span), velocity, WORKSPACE, done)
        if velocity is before:
            return target, velocity
        position = np.clip(start + velocity * span.elapsed_s, bounds.box_low, bounds.box_high)
        position = self._within_a_step(position, start, span)
        return position, (position - start) / span.elapsed_s

    def _braked(self, velocity: Vector, start: Vector, span: Span) -> Vector:
        """Slow down before a wall so that `max_acceleration` suffices to stop at it."""
        bounds = self._bounds
        slowest, fastest = towards_walls(start, bounds.box_low, bounds.box_high, span.elapsed_s, bounds.acceleration)
        clamped = np.minimum(np.maximum(velocity, slowest), fastest)
        return velocity if (np.abs(clamped - velocity) <= 1e-12).all() else clamped

    def _within_a_step(self, position: Vector, start: Vector, span: Span) -> Vector:
        """Shorten a motion from just outside the box to its speed, keeping its end inside.

        A box wins over a speed, but both can be had: the nearest place inside is within a step (see `refusal`).
        """
        step = self._bounds.speed * span.elapsed_s
        way = position - start
        if float(np.sqrt(way @ way)) <= step * (1.0 + TINY):
            return position
        nearest = np.clip(start, self._bounds.box_low, self._bounds.box_high)
        across, along = nearest - start, position - nearest
        # |across + s * along| = step, the larger root; s is in 0 … 1 as across is shorter than a step
        a, b, c = float(along @ along), float(across @ along), float(across @ across) - step * step
        root = max(b * b - a * c, 0.0)
        share = min(max((-b + float(np.sqrt(root))) / a, 0.0), 1.0) if a > 0.0 else 0.0
        return np.clip(nearest + share * along, self._bounds.box_low, self._bounds.box_high)

    def _turned(self, action: Action, reference: Reference, span: Span, done: list[str]) -> tuple[Action, Reference]:
        """Bound the turning speed: along the shortest way towards the wanted orientation."""
        spec, bounds, part = self._spec, self._bounds, self._spec.rotation_slice
        wanted, start = to_quaternion(action[part], spec.rotation), reference.orientation
        if start is None:
            return action, replace(reference, orientation=wanted, turn=np.zeros(3))
        if span.elapsed_s <= 0.0:
            return self._with_rotation(action, start), reference
        before = turn_between(start, wanted) / span.elapsed_s
        velocity = noted(limit_length(before, bounds.turn_speed), before, ANGULAR_SPEED, done)
        if bounds.turn_acceleration < np.inf:
            change = bounds.turn_acceleration * span.elapsed_s
            velocity = noted(limit_change(velocity, reference.turn, change), velocity, ANGULAR_ACCELERATION, done)
        if velocity is before:
            return action, replace(reference, orientation=wanted, turn=velocity)
        told = turned(start, velocity * span.elapsed_s)
        action = self._with_rotation(action, told)
        if spec.rotation == "rotation_vector":  # its numbers may have been limited to their ranges
            told = to_quaternion(action[part], spec.rotation)
        return action, replace(reference, orientation=told, turn=turn_between(start, told) / span.elapsed_s)

    def _with_rotation(self, action: Action, orientation: Vector) -> Action:
        """Write an orientation into an action, of its spellings the one nearest to the action's own."""
        spec, part = self._spec, self._spec.rotation_slice
        own, values = action[part], from_quaternion(orientation, spec.rotation)
        if spec.rotation == "quaternion" and own @ values < 0.0:
            values = -values
        if spec.rotation == "rotation_vector":
            angle = float(np.linalg.norm(values))
            other = values * (1.0 - 2.0 * np.pi / angle) if angle > TINY else values
            values = other if np.linalg.norm(other - own) < np.linalg.norm(values - own) else values
            values = np.clip(values, self._bounds.lower[part], self._bounds.upper[part])
        return put(action, part, values)

    def after(self, reference: Reference, measured: Measured, span: Span) -> Measured:  # noqa: ARG002
        """As `Motion.after`: where the robot was told to be."""
        return replace(measured, position=reference.position, orientation=reference.orientation)

    def hold(self, reference: Reference | None, last: Action | None, measured: Measured) -> Action | None:
        """As `Motion.hold`: where the robot was last told to be, or where it is when that is too far away."""
        position, orientation = measured.position, measured.orientation
        if reference is not None and reference.position is not None:
            behind = 0.0 if position is None else float(np.linalg.norm(reference.position - position))
            if position is None or behind <= _finite_or_zero(self._bounds.following[0]):
                position = reference.position
        if reference is not None and reference.orientation is not None:
            behind = 0.0
            if orientation is not None:
                behind = float(np.linalg.norm(turn_between(orientation, reference.orientation)))
            if orientation is None or behind <= _finite_or_zero(self._bounds.turn_following):
                orientation = reference.orientation
        if position is None or (self._spec.rotation != "none" and orientation is None):
            return None
        action = np.zeros(len(self._spec.names)) if last is None else last.copy()
        action[_POINT] = position
        if self._spec.rotation != "none" and orientation is not None:
            action = self._with_rotation(action, orientation)
        return gripper_known(self._spec, action, last)


def _finite_or_zero(limit: float) -> float:
    """Without a limit a target may be any distance ahead: then the robot is held where it is."""
    return limit if np.isfinite(limit) else 0.0
