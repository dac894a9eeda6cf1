"""Joint positions: the filter moves a reference towards them, and the reference is what the robot is told."""

from dataclasses import replace

import numpy as np

from vla_ros.contract import MeasurementSpec, RobotContract
from vla_ros.safety.bounds import Bounds
from vla_ros.safety.limits import limit_each_change, limit_ratio, towards_walls
from vla_ros.safety.measured import Measured
from vla_ros.safety.motion import Action, Span, noted
from vla_ros.safety.reasons import ACCELERATION, ANGULAR_SPEED, FOLLOWING_ERROR, LIMIT, OUTSIDE_RANGE
from vla_ros.safety.reference import Reference
from vla_ros.safety.reference_motion import ReferenceMotion


class JointMotion(ReferenceMotion):
    """Bounds joint positions.

    The joints of the arm slow down together for a speed, so that the path stays; for an acceleration each for itself,
    so that one joint that turns round does not halt the others. A gripper among them is a joint of its own.

    Args:
        contract: The robot's contract.
        bounds: Its limits.
        sources: Where its state is measured.
    """

    def __init__(self, contract: RobotContract, bounds: Bounds, sources: MeasurementSpec) -> None:
        super().__init__(contract, bounds)
        arm = np.ones(len(self._spec.names), dtype=bool)
        if self._spec.gripper_index is not None:
            arm[self._spec.gripper_index] = False
        self._arm = arm
        limits = (bounds.lower, bounds.upper, bounds.joint_speed, bounds.joint_acceleration, bounds.following)
        bounded = any(np.isfinite(limit[arm]).any() for limit in limits)
        self._measures = bounded and sources.joints is not None

    @property
    def measures(self) -> bool:
        """As `Motion.measures`."""
        return self._measures

    def unknown(self, measured: Measured) -> bool:
        """As `Motion.unknown`."""
        return self._measures and (measured.joints is None or bool(np.isnan(measured.joints[self._arm]).any()))

    def refusal(self, reference: Reference, measured: Measured, span: Span) -> str:
        """As `Motion.refusal`. What is not known (NaN) compares as false."""
        bounds, joints = self._bounds, measured.joints
        if joints is None:
            return ""
        if not self._follows(reference, joints):
            return FOLLOWING_ERROR
        beyond = np.abs(joints - np.clip(joints, bounds.lower, bounds.upper))
        outside = beyond > self._reach(bounds.joint_speed, span)
        return OUTSIDE_RANGE if outside.any() else ""

    def _follows(self, reference: Reference, joints: Action) -> bool:
        return not bool((np.abs(reference.joints - joints) > self._bounds.following).any())

    def bounded(
        self,
        action: Action,
        reference: Reference,
        measured: Measured,  # noqa: ARG002
        span: Span,
        done: list[str],
    ) -> tuple[Action, Reference]:
        """As `Motion.bounded`."""
        bounds, elapsed_s = self._bounds, span.elapsed_s
        known = ~np.isnan(reference.joints)
        start = np.where(known, reference.joints, action)  # a joint of which nothing is known begins where it is told
        if elapsed_s <= 0.0:
            told = np.clip(start, bounds.lower, bounds.upper)
            return np.where(self._arm, told, action), replace(reference, joints=start)
        before = (action - start) / elapsed_s
        velocity = noted(self._slowed(before), before, ANGULAR_SPEED, done)
        if np.isfinite(bounds.joint_acceleration).any():
            change = bounds.joint_acceleration * elapsed_s
            limited = limit_each_change(velocity, reference.joint_velocity, change)
            velocity = noted(limited, velocity, ACCELERATION, done)
            slowest, fastest = towards_walls(start, bounds.lower, bounds.upper, elapsed_s, bounds.joint_acceleration)
            clamped = np.minimum(np.maximum(velocity, slowest), fastest)
            if (np.abs(clamped - velocity) > 1e-12).any():
                velocity = noted(clamped, velocity, LIMIT, done)
        told = action
        if velocity is not before:
            told = np.clip(start + velocity * elapsed_s, bounds.lower, bounds.upper)
            velocity = (told - start) / elapsed_s
        return told, replace(reference, joints=told.copy(), joint_velocity=velocity)

    def _slowed(self, velocity: Action) -> Action:
        """Slow the arm's joints down together, a gripper by itself."""
        maximum = self._bounds.joint_speed
        if np.isinf(maximum).all():
            return velocity
        slowed = limit_ratio(np.where(self._arm, velocity, 0.0), maximum)
        alone = np.clip(velocity, -maximum, maximum)
        result = np.where(self._arm, slowed, alone)
        return velocity if (result == velocity).all() else result

    def after(self, reference: Reference, measured: Measured, span: Span) -> Measured:  # noqa: ARG002
        """As `Motion.after`: where the joints were told to be."""
        return replace(measured, joints=reference.joints)

    def hold(self, reference: Reference | None, last: Action | None, measured: Measured) -> Action | None:
        """As `Motion.hold`: where the joints were last told to be, or where they are when that is too far away."""
        unknown = np.full(len(self._spec.names), np.nan)
        joints = unknown if measured.joints is None else measured.joints
        told = unknown if reference is None else reference.joints
        near = np.where(np.isfinite(self._bounds.following), self._bounds.following, 0.0)
        follows = not bool((np.abs(told - joints)[self._arm] > near[self._arm]).any())  # false of NaN
        held = np.where(np.isnan(told), joints, told) if follows else np.where(np.isnan(joints), told, joints)
        if last is not None:  # a gripper as it was commanded: where it is measured, it may be holding something
            held = np.where(self._arm & ~np.isnan(held), held, last)
        return None if np.isnan(held).any() else held
