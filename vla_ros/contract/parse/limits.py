"""``action.limits`` and ``action.measured`` of a contract."""

from collections.abc import Mapping
from typing import get_args

from vla_ros.contract.joint_limits import joint_limits_of_file, joint_limits_of_mapping, joint_limits_of_urdf
from vla_ros.contract.schema import ROTATION_WIDTH, GripperSpec, MeasuredRotation, MeasuredSpec
from vla_ros.contract.schema.file_forms import LimitsFile
from vla_ros.contract.schema.limits import ClearanceSpec, JointLimit, LimitsSpec
from vla_ros.schema import ABSENT, Narrow, Section, given, read_dataclass

_OF_END_EFFECTOR = ("workspace", "max_speed", "max_angular_acceleration", "max_angular_following_error")
_OF_JOINTS = ("max_joint_speed", "max_joint_acceleration", "joint_limits", "urdf")


def parse_limits(
    at: Section, names: tuple[str, ...], representation: str, rotation: str, gripper: GripperSpec | None
) -> LimitsSpec:
    """Read the limits.

    Args:
        at: The section.
        names: Of the action's numbers.
        representation: Of the action.
        rotation: Of the action.
        gripper: Of the action.

    Raises:
        UserError: A field is wrong, has no meaning for the representation, or contradicts another.
    """
    per_number, per_axis = Narrow(length=len(names)), Narrow(length=3)
    context = dict.fromkeys(("lower", "upper", "max_joint_speed", "max_joint_acceleration"), per_number)
    context |= dict.fromkeys(("workspace_min", "workspace_max", "position_names"), per_axis)
    context["joint_limits"] = given(_joint_limits(at, names, representation, gripper))
    form = read_dataclass(at, LimitsFile, context)
    spec = LimitsSpec(**{name: getattr(form, name) for name in LimitsSpec.__dataclass_fields__})
    _check(at, spec, representation)
    _check_standstill(at, spec, names, representation, rotation, gripper=gripper)
    return spec


def parse_measured(at: Section, representation: str) -> MeasuredSpec:
    """Read where the state is measured; whether it is there is for `measured_sources` to say.

    Raises:
        UserError: A field is wrong or has no meaning for the representation.
    """
    turn = at.section("orientation", {}).scalar("rotation", str, "quaternion", choices=get_args(MeasuredRotation))
    lengths = {"position": 3, "orientation": ROTATION_WIDTH[turn]}
    context = {part: Narrow(within=_part(at, part, length)) for part, length in lengths.items()}
    context["joints"] = Narrow(within={"key": Narrow(required=bool(at.content.get("joints"))), "rotation": ABSENT})
    context["base"] = Narrow(within=_part(at, "base", None))
    spec = read_dataclass(at, MeasuredSpec, context)
    if spec.base.key and len(spec.base.names) not in (3, 4):
        raise at.fail(
            "base.names", f"must hold x, y, yaw, or x, y and a quaternion's z and w, got {list(spec.base.names)}"
        )
    meant = {"joint_position": ("joints",), "trajectory": ("base",)}.get(representation, ("position", "orientation"))
    for part in ("position", "orientation", "joints", "base"):
        if part in at and part not in meant:
            raise at.fail(part, f"has no meaning for a {representation} action")
    return spec


def _part(at: Section, part: str, length: int | None) -> dict[str, Narrow]:
    is_given = bool(at.content.get(part))
    context = {"key": Narrow(required=is_given), "names": Narrow(required=is_given, length=length)}
    return context if part == "orientation" else {**context, "rotation": ABSENT}


def _joint_limits(
    at: Section, names: tuple[str, ...], representation: str, gripper: GripperSpec | None
) -> tuple[JointLimit, ...]:
    """Read the joints' limits from the fields ``joint_limits`` and ``urdf``, the tighter of both."""
    found: list[dict[str, JointLimit]] = []
    wanted = names if representation == "joint_position" else ()
    optional = () if gripper is None else (gripper.name,)
    if isinstance(at.content.get("joint_limits"), Mapping):
        found.append(joint_limits_of_mapping(at.section("joint_limits"), wanted, optional))
    elif (path := at.optional("joint_limits", str)) is not None and wanted:
        found.append(joint_limits_of_file(at, path, wanted, optional))
    if (path := at.optional("urdf", str)) is not None and wanted:
        found.append(joint_limits_of_urdf(at, path, wanted, optional))
    merged: dict[str, JointLimit] = {}
    for limits in found:
        for name, limit in limits.items():
            merged[name] = merged[name].tightened(limit) if name in merged else limit
    for name, limit in merged.items():
        if (
            limit.min_position is not None
            and limit.max_position is not None
            and limit.min_position >= limit.max_position
        ):
            raise at.fail(
                "joint_limits", f"leave joint '{name}' no range: {limit.min_position:g} to {limit.max_position:g}"
            )
    return tuple(merged[name] for name in names if name in merged)


def _check(at: Section, spec: LimitsSpec, representation: str) -> None:
    pairs = (
        (spec.lower, spec.upper, "upper"),
        (spec.workspace_min, spec.workspace_max, "workspace.max"),
    )
    for lower, upper, field in pairs:
        if len(lower) != len(upper) or any(a >= b for a, b in zip(lower, upper, strict=True)):
            raise at.fail(field, f"must be above its lower bound in every number, got {list(lower)} and {list(upper)}")
    of_joints = representation == "joint_position"
    if spec.clearance != ClearanceSpec() and representation not in ("planar_twist", "trajectory"):
        raise at.fail("clearance", f"is kept by a mobile base, and the action is a {representation}")
    if spec.clearance != ClearanceSpec() and not spec.clearance.key:
        raise at.fail("clearance.key", "is required and missing; name the scan that the clearance is kept by")
    if representation == "trajectory":
        for field in ("lower", "upper", "workspace", "max_following_error"):
            if field in at:
                raise at.fail(
                    field,
                    "has no meaning for a trajectory; bound the base that follows it by max_speed, "
                    "max_angular_speed, max_acceleration and max_angular_acceleration",
                )
    for field in _OF_END_EFFECTOR if of_joints else _OF_JOINTS:
        if field in at:
            reason = (
                "bounds the end effector, which joint positions do not tell; use lower and upper"
                if of_joints
                else f"bounds joints, and the action is a {representation}; use lower, upper and max_speed"
            )
            raise at.fail(field, reason)
    if (
        representation in ("displacement", "twist", "planar_twist", "trajectory")
        and spec.max_angular_following_error is not None
    ):
        raise at.fail("max_angular_following_error", f"has a meaning only for a pose, not for a {representation}")


def _check_standstill(
    at: Section,
    spec: LimitsSpec,
    names: tuple[str, ...],
    representation: str,
    rotation: str,
    *,
    gripper: GripperSpec | None,
) -> None:
    """Refuse ranges that forbid standing still, and ranges of numbers that only together have a meaning."""
    if not spec.lower or representation == "joint_position":
        return
    turn = 3 + ROTATION_WIDTH[rotation]
    for index, (name, low, high) in enumerate(zip(names, spec.lower, spec.upper, strict=True)):
        place = "lower" if low > -1.0 else "upper"
        if 3 <= index < turn and rotation in ("quaternion", "rot6d") and (low > -1.0 or high < 1.0):
            raise at.fail(
                f"{place}[{index}]",
                f"bounds '{name}' to {low:g} to {high:g}; the numbers of a {rotation} mean nothing one by one: "
                "give -1 and 1, and bound turns by max_angular_speed",
            )
        moves = representation in ("displacement", "twist") and index < (turn if rotation == "rotation_vector" else 3)
        moves = moves or (representation == "planar_twist" and (gripper is None or name != gripper.name))
        if moves and not low <= 0.0 <= high:
            raise at.fail(
                "lower" if low > 0.0 else "upper",
                f"of '{name}' are {low:g} to {high:g} and exclude zero; the robot could never be told to stand still",
            )
