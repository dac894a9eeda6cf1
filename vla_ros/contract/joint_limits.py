"""Limits of joints from a ``joint_limits.yaml`` (MoveIt, ros2_control), from a URDF, or in the contract itself.

Whatever a file says about other joints, and about jerk and effort, is left alone.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from vla_ros.contract.schema.limits import JointLimit
from vla_ros.data_types import nearest_name
from vla_ros.schema import Section, load_yaml

_OTHER_FIELDS = (
    "has_deceleration_limits", "max_deceleration", "has_jerk_limits", "max_jerk", "has_effort_limits", "max_effort",
    "k_position", "k_velocity",
)  # fmt: skip
_KINDS = {  # switch → fields
    "has_position_limits": ("min_position", "max_position"),
    "has_soft_limits": ("soft_lower_limit", "soft_upper_limit"),
    "has_velocity_limits": ("max_velocity",),
    "has_acceleration_limits": ("max_acceleration",),
}
_MAX_BYTES = 50_000_000


def joint_limits_of_mapping(at: Section, names: Iterable[str], optional: Iterable[str]) -> dict[str, JointLimit]:
    """Read joint → limits in the fields of ``joint_limits.yaml``.

    A limit counts when it is given, unless its ``has_…_limits`` is false; a limit that is announced must be given.

    Args:
        at: Joint → fields.
        names: The joints wanted.
        optional: Those among them that may be missing.

    Raises:
        UserError: A joint is missing, or a limit is wrong.
    """
    found: dict[str, JointLimit] = {}
    for name in names:
        if name in at:
            found[name] = _one_joint(at.section(name), name)
        elif name not in optional:
            known = list(map(str, at.content))
            raise at.fail(
                name, f"is required and missing; joints here are {', '.join(known)}.{nearest_name(name, known)}"
            )
    return found


def joint_limits_of_file(
    at: Section, path: str, names: Iterable[str], optional: Iterable[str]
) -> dict[str, JointLimit]:
    """Read a ``joint_limits.yaml``; arguments and errors as `joint_limits_of_mapping`.

    Args:
        at: The section that names the file; relative paths start from its own file.
        path: The file.
        names: The joints wanted.
        optional: Those among them that may be missing.
    """
    file = _beside(at, path)
    top = Section(str(file), "", load_yaml(file, at.error), at.error)
    if "joint_limits" not in top:  # as ros2_control's parameters: below a node's name
        for node in map(str, top.content):
            if isinstance(top.content[node], Mapping) and "ros__parameters" in top.section(node):
                top = top.section(node).section("ros__parameters")
                break
    return joint_limits_of_mapping(top.section("joint_limits"), names, optional)


def joint_limits_of_urdf(
    at: Section, path: str, names: Iterable[str], optional: Iterable[str]
) -> dict[str, JointLimit]:
    """Read the ``<limit>`` and ``<safety_controller>`` of a URDF's joints; arguments as `joint_limits_of_file`.

    Raises:
        UserError: The file is not a URDF, a joint is missing or cannot move, or a limit is wrong.
    """
    file = _beside(at, path)
    joints = {joint.get("name", ""): joint for joint in _robot(at, file).findall("joint")}
    found: dict[str, JointLimit] = {}
    for name in names:
        if name in joints:
            found[name] = _urdf_joint(at, file, joints[name], name)
        elif name not in optional:
            known = ", ".join(list(joints)[:20])
            raise at.error(f"{file}: has no joint '{name}'; joints are {known}.{nearest_name(name, joints)}")
    return found


def to_mapping(limits: Iterable[JointLimit]) -> dict[str, dict[str, float]]:
    """Return limits as `joint_limits_of_mapping` reads them."""
    fields = ("min_position", "max_position", "max_velocity", "max_acceleration")
    return {
        limit.name: {field: value for field in fields if (value := getattr(limit, field)) is not None}
        for limit in limits
    }


def _beside(at: Section, path: str) -> Path:
    return Path(at.source).parent / Path(path).expanduser()


def _one_joint(at: Section, name: str) -> JointLimit:
    values: dict[str, float | None] = {}
    for switch, fields in _KINDS.items():
        announced = at.optional(switch, bool)
        for field in fields:
            value = at.optional(field, float)
            if value is None and announced:
                raise at.fail(field, f"is required and missing: {switch} is true")
            values[field] = None if announced is False else value
    slowest = at.optional("min_velocity", float)
    wraps = at.optional("angle_wraparound", bool)
    for field in _OTHER_FIELDS:
        at.raw(field, None)
    at.finish()
    if slowest is not None and values["max_velocity"] is not None:
        values["max_velocity"] = min(values["max_velocity"], -slowest)
    for field in ("max_velocity", "max_acceleration"):
        _require_positive(at, field, values[field])
    limit = JointLimit(name, max_velocity=values["max_velocity"], max_acceleration=values["max_acceleration"])
    if wraps:  # a joint without end: its range says how its angle is counted, not where it must stop
        return limit
    for low, high in (("min_position", "max_position"), ("soft_lower_limit", "soft_upper_limit")):
        limit = limit.tightened(JointLimit(name, values[low], values[high]))
    return limit


def _require_positive(at: Section, field: str, value: float | None) -> None:
    if value is not None and value <= 0.0:
        raise at.fail(field, f"must be above 0, got {value!r}")


def _robot(at: Section, file: Path) -> ET.Element:
    try:
        content = file.read_bytes()
    except OSError as reason:
        hint = nearest_name(file.name, (p.name for p in file.parent.glob("*"))) if file.parent.is_dir() else ""
        raise at.error(f"{file}: cannot be read: {reason.strerror}.{hint}") from reason
    if len(content) > _MAX_BYTES or b"<!ENTITY" in content:  # a URDF needs neither; XML can be made to explode by it
        raise at.error(f"{file}: is no URDF: it is larger than {_MAX_BYTES // 10**6} MB or declares XML entities.")
    try:
        root = ET.fromstring(content)  # noqa: S314  # entities are refused above
    except (ET.ParseError, ValueError, LookupError) as reason:
        raise at.error(f"{file}: not readable as XML: {str(reason)[:200]}.") from reason
    if root.tag != "robot":
        raise at.error(f"{file}: is no URDF: its root is <{root.tag[:80]}>, expected <robot>.")
    if any(str(element.tag).startswith("{") and "xacro" in str(element.tag) for element in root.iter()):
        raise at.error(f"{file}: is a xacro file; expand it with 'xacro FILE > robot.urdf' and name the result.")
    return root


def _urdf_joint(at: Section, file: Path, joint: ET.Element, name: str) -> JointLimit:
    kind = joint.get("type", "")
    if kind not in ("revolute", "continuous", "prismatic"):
        raise at.error(f"{file}: joint '{name}' is of type '{kind}' and cannot be commanded.")
    limit, soft = joint.find("limit"), joint.find("safety_controller")
    if limit is None and kind != "continuous":
        raise at.error(f"{file}: joint '{name}' is {kind} and has no <limit>.")
    values = _Attributes(at, file, name)
    found = JointLimit(name)
    if limit is not None:
        speed = values.number(limit, "velocity", None)
        if speed is not None and speed <= 0.0:
            raise at.error(f"{file}: joint '{name}' has a velocity limit of {speed:g} and could never move.")
        found = JointLimit(name, max_velocity=speed)
    if kind == "continuous" or limit is None:
        return found
    found = found.tightened(
        JointLimit(name, values.number(limit, "lower", 0.0), values.number(limit, "upper", 0.0))
    )  # the URDF specification: left out, they are 0
    if soft is not None:
        soft_range = (values.number(soft, "soft_lower_limit", None), values.number(soft, "soft_upper_limit", None))
        found = found.tightened(JointLimit(name, *soft_range))
    return found


class _Attributes:
    """Numbers in the attributes of a joint's elements."""

    def __init__(self, at: Section, file: Path, joint: str) -> None:
        self._at, self._file, self._joint = at, file, joint

    def number(self, element: ET.Element, name: str, default: float | None) -> float | None:
        """Return a finite number, or the default where the attribute is missing."""
        text: Any = element.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._at.error(
                f"{self._file}: joint '{self._joint}' has {name}=\"{text[:80]}\", expected a finite number."
            )
        return value
