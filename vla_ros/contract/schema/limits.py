"""What bounds the motion of a robot, as immutable values: `LimitsSpec` and the limits of one joint. No parsing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from vla_ros.schema import About


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
class ClearanceSpec:
    """What a base keeps from whatever a LiDAR sees around it."""

    key: Annotated[str, About("Feature key of the scan or cloud: points with x and y first, m. Empty for none.")] = ""
    radius: Annotated[float, About("Of a circle around the base's centre that holds it.", unit="m", above=0)] = 0.3
    margin: Annotated[float, About("Distance to keep beyond it.", unit="m", at_least=0)] = 0.1
    deceleration: Annotated[float, About("With which the base certainly brakes.", unit="m/s²", above=0)] = 1.0
    mounting: Annotated[
        tuple[float, float, float], About("x, y and yaw of the LiDAR in the base frame.", unit="m, rad")
    ] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LimitsSpec:
    """Bounds that the safety filter holds; None or empty where there is no bound. Of several, the tightest holds."""

    lower: Annotated[tuple[float, ...], About("Lowest value of each number, in the action's units.")] = ()
    upper: Annotated[tuple[float, ...], About("Highest value of each number.")] = ()
    workspace_min: Annotated[
        tuple[float, ...],
        About("Lowest x, y, z.", unit="m", place="workspace.min", kind="list of 3 numbers"),
    ] = ()
    workspace_max: Annotated[
        tuple[float, ...],
        About("Highest x, y, z.", unit="m", place="workspace.max", kind="list of 3 numbers"),
    ] = ()
    position_key: Annotated[
        str,
        About(
            "Feature with the position now; the same as `action.measured.position`.",
            place="workspace.position_key",
            default="derived",
        ),
    ] = ""
    position_names: Annotated[
        tuple[str, ...],
        About(
            "Its numbers for x, y, z.", place="workspace.position_names", default="derived", kind="list of 3 strings"
        ),
    ] = ()
    max_speed: Annotated[float | None, About("Of the end effector.", unit="m/s", above=0)] = None
    max_angular_speed: Annotated[
        float | None, About("Of the end effector, or of every joint but a gripper.", unit="rad/s", above=0)
    ] = None
    max_acceleration: Annotated[
        float | None,
        About("Of the end effector, in m/s², or of every joint but a gripper, in rad/s².", above=0),
    ] = None
    max_angular_acceleration: Annotated[float | None, About("Of the end effector.", unit="rad/s²", above=0)] = None
    max_joint_speed: Annotated[
        tuple[float, ...],
        About("Of joint positions: one per number, in rad/s (m/s of a prismatic joint).", above=0),
    ] = ()
    max_joint_acceleration: Annotated[
        tuple[float, ...], About("Of joint positions: one per number.", unit="rad/s²", above=0)
    ] = ()
    joint_limits: Annotated[
        tuple[JointLimit, ...],
        About(
            "Of joint positions: a `joint_limits.yaml` as MoveIt and ros2_control have it, relative to this file, or "
            "its joints as a mapping. Range, velocity and acceleration count; every joint of the arm must be in it. "
            "Copies of a contract in checkpoints, bags and datasets hold the numbers.",
            kind="file name or mapping",
            json_types=("string", "object"),
        ),
    ] = ()
    clearance: Annotated[
        ClearanceSpec,
        About(
            "Of a mobile base: it drives towards what the LiDAR sees only as fast as it can still stop in front of it, "
            "and not at all while the scan is missing."
        ),
    ] = field(default_factory=ClearanceSpec)
    max_following_error: Annotated[
        float | None,
        About(
            "How far the commanded state may be from the measured one before commands are dropped, in m, or rad of a "
            "joint. Of a displacement or twist, none unless it is given.",
            above=0,
            default="what the speed limit covers in 0.5 s",
        ),
    ] = None
    max_angular_following_error: Annotated[
        float | None,
        About(
            "The same of the orientation of a pose.",
            unit="rad",
            above=0,
            default="what the speed limit covers in 0.5 s",
        ),
    ] = None

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
