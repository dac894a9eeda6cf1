"""What bounds the motion of a robot, as immutable values: `LimitsSpec` and the limits of one joint. No parsing."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class JointLimit:
    """Limits of one joint, in rad (m for a prismatic joint) and s; None where there is none.

    Attributes:
        name: The joint.
        min_position, max_position: Range.
        max_velocity: Speed in both directions.
        max_acceleration: In both directions.
    """

    name: str
    min_position: float | None = None
    max_position: float | None = None
    max_velocity: float | None = None
    max_acceleration: float | None = None

    def tightened(self, other: "JointLimit") -> "JointLimit":
        """Return the tighter of both limits, number by number."""
        return JointLimit(
            self.name,
            _tightest(max, self.min_position, other.min_position),
            _tightest(min, self.max_position, other.max_position),
            _tightest(min, self.max_velocity, other.max_velocity),
            _tightest(min, self.max_acceleration, other.max_acceleration),
        )


@dataclass(frozen=True)
class LimitsSpec:
    """Bounds that the safety filter holds; None or empty where there is no bound. Of several, the tightest holds.

    Attributes:
        lower, upper: Per action number, in the action's units.
        workspace_min, workspace_max: Box for the end effector's position in the base frame, m.
        position_key, position_names: The feature and its numbers that hold that position now.
        max_speed: m/s of the end effector.
        max_angular_speed: rad/s of the end effector, or of every joint.
        max_acceleration: m/s² of the end effector, or rad/s² of every joint.
        max_angular_acceleration: rad/s² of the end effector.
        max_joint_speed, max_joint_acceleration: rad/s and rad/s², one per action number.
        joint_limits: Of the action's joints, from ``joint_limits`` and ``urdf``.
        max_following_error: How far the commanded state may be from the measured one, m or rad per joint.
        max_angular_following_error: The same of the end effector's orientation, rad.
    """

    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    workspace_min: tuple[float, ...] = ()
    workspace_max: tuple[float, ...] = ()
    position_key: str = ""
    position_names: tuple[str, ...] = ()
    max_speed: float | None = None
    max_angular_speed: float | None = None
    max_acceleration: float | None = None
    max_angular_acceleration: float | None = None
    max_joint_speed: tuple[float, ...] = ()
    max_joint_acceleration: tuple[float, ...] = ()
    joint_limits: tuple[JointLimit, ...] = ()
    max_following_error: float | None = None
    max_angular_following_error: float | None = None

    @property
    def bounds_joint_motion(self) -> bool:
        """Whether a joint's speed or acceleration has a limit."""
        return bool(
            self.max_angular_speed
            or self.max_acceleration
            or self.max_joint_speed
            or self.max_joint_acceleration
            or any(limit.max_velocity or limit.max_acceleration for limit in self.joint_limits)
        )


def _tightest(choose: Callable[[list[float]], float], first: float | None, second: float | None) -> float | None:
    known = [value for value in (first, second) if value is not None]
    return choose(known) if known else None
