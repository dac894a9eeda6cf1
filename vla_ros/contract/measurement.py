"""Where a robot's state is measured: which numbers of which inputs hold position, orientation and joints.

The contract's ``action.measured`` says it; what it leaves out is derived where there is only one possibility.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vla_ros.contract.schema import ROTATION_WIDTH, InputSpec, MeasuredPart, RobotContract, Rotation
from vla_ros.data_types import ContractError, nearest_name
from vla_ros.schema import Section

Number: TypeAlias = tuple[int, int]
"""Index of an input in `RobotContract.inputs`, and index in that input's own vector."""

_POSE_FIELDS = {"geometry_msgs/msg/PoseStamped": "pose.", "nav_msgs/msg/Odometry": "pose.pose."}
_TRANSFORM_FIELDS = {"position": "translation", "orientation": "rotation"}
RELATIVE = ("displacement", "twist", "planar_twist")
"""Representations that say how the robot moves from wherever it is."""
_JOINT_STATE = "sensor_msgs/msg/JointState"


@dataclass(frozen=True)
class MeasurementSpec:
    """Which numbers of which inputs hold the measured state; None where it is not measured.

    Attributes:
        position: x, y, z of the end effector in the base frame, m.
        orientation: Of the end effector in the base frame, written as `rotation`.
        rotation: Form of the orientation.
        joints: One per action number, None for a number that no input holds.
        base: Of a base that follows a trajectory: x, y, yaw, or x, y and the quaternion's z and w, in its frame.
        scan: Index of the input that a base keeps clear of.
    """

    position: tuple[Number, ...] | None = None
    orientation: tuple[Number, ...] | None = None
    rotation: Rotation = "quaternion"
    joints: tuple[Number | None, ...] | None = None
    base: tuple[Number, ...] | None = None
    scan: int | None = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the inputs that hold any of it, ascending."""
        parts = (self.position or (), self.orientation or (), self.joints or (), self.base or ())
        found = {number[0] for part in parts for number in part if number is not None}
        return tuple(sorted(found if self.scan is None else {*found, self.scan}))


def measured_sources(contract: RobotContract) -> MeasurementSpec:
    """Find where the state is measured that the contract's action changes.

    Named in ``action.measured`` (or, a position, beside the workspace). Otherwise, for a Cartesian action, the one
    PoseStamped or Odometry input in the base frame, or else the transform of the tool in it; for joint positions the
    JointState inputs that hold the positions of the action's joints. Where several inputs could be meant, none is
    taken; `check_measured` makes that an error when it matters.

    Raises:
        ContractError: `action.measured` names what is not there or cannot be it.
    """
    if contract.action.representation == "joint_position":
        return MeasurementSpec(joints=_joints(contract))
    if contract.action.representation == "trajectory":
        return MeasurementSpec(base=_base(contract), scan=_scan(contract))
    position, orientation = _position(contract), _orientation(contract)
    form = contract.action.measured.orientation.rotation if contract.action.measured.orientation.key else "quaternion"
    return MeasurementSpec(position, orientation, form, scan=_scan(contract))


def check_measured(contract: RobotContract, top: Section) -> None:
    """Refuse a contract whose limits need a measured state that no input holds.

    Raises:
        ContractError: Names the limit and what to add.
    """
    action, limits, sources = contract.action, contract.action.limits, measured_sources(contract)
    if action.representation == "joint_position":
        needed = limits.bounds_joint_motion or limits.max_following_error
        if needed and sources.joints is None:
            raise top.fail("action.limits", _missing_joints(contract))
        return
    if action.representation == "trajectory":
        if sources.base is None:
            raise top.fail("action.measured", _missing_base(contract))
        return
    relative, in_tool = action.representation in RELATIVE, action.frame == contract.tool_frame
    bounds = (limits.max_speed, limits.max_acceleration)
    turns = (limits.max_angular_speed, limits.max_angular_acceleration, limits.max_angular_following_error)
    if not relative and in_tool and (limits.workspace_min or any((*bounds, *turns))):
        raise top.fail(
            "action.frame",
            f"a pose in the tool frame '{action.frame}' cannot be held to a workspace or a speed; give poses in "
            f"'{contract.base_frame}', or leave these limits out",
        )
    wants_position = limits.max_following_error or (limits.workspace_min if relative else any(bounds))
    if wants_position and sources.position is None:
        place = "action.limits.workspace" if relative and limits.workspace_min else "action.limits"
        raise top.fail(place, _missing_pose(contract, "position"))
    wants_turn = limits.workspace_min and in_tool if relative else action.rotation != "none" and any(turns)
    if wants_turn and sources.orientation is None:
        raise top.fail("action.frame" if relative else "action.limits", _missing_pose(contract, "orientation"))


def _position(contract: RobotContract) -> tuple[Number, ...] | None:
    limits, part, place = contract.action.limits, contract.action.measured.position, "action.measured.position"
    if not part.key and limits.position_key:
        part, place = MeasuredPart(limits.position_key, limits.position_names), "action.limits.workspace"
    if part.key:
        axes = "xyz" if place == "action.measured.position" else ("", "", "")  # beside the box they may be reordered
        fields = tuple(f"position.{axis}" for axis in axes)
        return _named(contract, part, place, fields)
    candidates = list(_poses(contract, "position", "xyz"))
    return candidates[0] if len(candidates) == 1 else None


def _orientation(contract: RobotContract) -> tuple[Number, ...] | None:
    part = contract.action.measured.orientation
    if part.key:
        fields = tuple(f"orientation.{axis}" for axis in "xyzw") if part.rotation == "quaternion" else ()
        return _named(contract, part, "action.measured.orientation", fields)
    candidates = list(_poses(contract, "orientation", "xyzw"))
    position = _position(contract)
    if len(candidates) > 1 and position is not None:  # the one that belongs to the position
        candidates = [found for found in candidates if found[0][0] == position[0][0]]
    return candidates[0] if len(candidates) == 1 else None


def _poses(contract: RobotContract, part: str, axes: str) -> Iterator[tuple[Number, ...]]:
    """Yield the position or orientation of every input that holds a whole one in the base frame.

    Where no message of a pose does, the transform of the tool's frame in the base frame counts.
    """
    found = False
    for index, spec in enumerate(contract.inputs):
        prefix = _POSE_FIELDS.get(spec.type)
        if prefix is not None and spec.frame in (None, contract.base_frame):
            for number in _whole(index, spec, f"{prefix}{part}", axes):
                found = True
                yield number
    for index, spec in enumerate(contract.inputs):
        of = spec.transform
        if not found and of is not None and (of.parent, of.child) == (contract.base_frame, contract.tool_frame):
            yield from _whole(index, spec, _TRANSFORM_FIELDS[part], axes)


def _whole(index: int, spec: InputSpec, field: str, axes: str) -> Iterator[tuple[Number, ...]]:
    """Yield the numbers of a vector's field, where an observation holds all of them."""
    wanted = [f"{field}.{axis}" for axis in axes]
    if spec.key.startswith("observation.") and set(wanted) <= set(spec.fields):
        yield tuple((index, spec.fields.index(name)) for name in wanted)


def _scan(contract: RobotContract) -> int | None:
    """Find the input that a base keeps clear of."""
    clearance = contract.action.limits.clearance
    if not clearance.key:
        return None
    clouds = {spec.key: index for index, spec in enumerate(contract.inputs) if spec.points is not None}
    if clearance.key not in clouds:
        raise ContractError(
            f"{contract.source}: action.limits.clearance.key '{clearance.key}' is no scan or cloud; those are "
            f"{', '.join(clouds) or '(none)'}.{nearest_name(clearance.key, clouds)}"
        )
    spec = contract.inputs[clouds[clearance.key]]
    if spec.points is not None and tuple(spec.points.fields[:2]) != ("x", "y"):
        raise ContractError(
            f"{contract.source}: action.limits.clearance.key '{clearance.key}' has the fields "
            f"{', '.join(spec.points.fields)}; x and y must come first."
        )
    return clouds[clearance.key]


def _base(contract: RobotContract) -> tuple[Number, ...] | None:
    """Find x, y and the orientation of a base in the trajectory's frame."""
    part, frame = contract.action.measured.base, contract.action.frame
    if part.key:
        return _named(contract, part, "action.measured.base", ())
    found = _base_candidates(contract, frame)
    return found[0] if len(found) == 1 else None


def _base_candidates(contract: RobotContract, frame: str) -> list[tuple[Number, ...]]:
    found = []
    for index, spec in enumerate(contract.inputs):
        prefix = _POSE_FIELDS.get(spec.type)
        if prefix is None or spec.frame != frame or not spec.key.startswith("observation."):
            continue
        wanted = [f"{prefix}{field}" for field in ("position.x", "position.y", "orientation.z", "orientation.w")]
        if set(wanted) <= set(spec.fields):
            found.append(tuple((index, spec.fields.index(field)) for field in wanted))
    return found


def _missing_base(contract: RobotContract) -> str:
    frame = contract.action.frame
    if found := _base_candidates(contract, frame):
        keys = " and ".join(contract.inputs[numbers[0][0]].key for numbers in found)
        return (
            f"is needed to follow a trajectory, and {keys} hold a pose in '{frame}'; say which in action.measured.base"
        )
    return (
        f"is needed to follow a trajectory: no Odometry or PoseStamped input with frame '{frame}' holds position.x, "
        "position.y, orientation.z and orientation.w; add one, or name the numbers in action.measured.base"
    )


def _joints(contract: RobotContract) -> tuple[Number | None, ...] | None:
    """Find the joints of the action; all but a gripper must be there."""
    action, part = contract.action, contract.action.measured.joints
    if part.key:
        names = part.names or _arm_names(contract)
        found = dict(
            zip(_action_names(contract, names), _named(contract, part, "action.measured.joints", ()), strict=True)
        )
        return tuple(found.get(name) for name in action.names)
    numbers = {name: _joint_numbers(contract, name) for name in action.names}
    if any(len(numbers[name]) != 1 for name in _arm_names(contract)):
        return None
    return tuple(numbers[name][0] if len(numbers[name]) == 1 else None for name in action.names)


def _joint_numbers(contract: RobotContract, name: str) -> list[Number]:
    """Return where a joint's position is measured, once per topic."""
    found: dict[str, Number] = {}
    for index, spec in enumerate(contract.inputs):
        if spec.type == _JOINT_STATE and spec.fields == ("position",) and name in spec.names:
            found.setdefault(spec.topic, (index, spec.names.index(name)))
    return list(found.values())


def _arm_names(contract: RobotContract) -> tuple[str, ...]:
    gripper = contract.action.gripper
    return tuple(name for name in contract.action.names if gripper is None or name != gripper.name)


def _action_names(contract: RobotContract, names: Sequence[str]) -> tuple[str, ...]:
    """Return the action numbers that as many measured names stand for, in order."""
    for wanted in (contract.action.names, _arm_names(contract)):
        if len(names) == len(wanted):
            return wanted
    raise ContractError(
        f"{contract.source}: action.measured.joints.names expected one name per joint of the action "
        f"({', '.join(_arm_names(contract))}), got {', '.join(names) or 'none'}."
    )


def _named(contract: RobotContract, part: MeasuredPart, place: str, fields: tuple[str, ...]) -> tuple[Number, ...]:
    """Find named numbers.

    Args:
        contract: The robot's contract.
        part: What is named.
        place: Where it is named, for messages.
        fields: Message fields that the numbers of a pose must come from, in order; none to accept any.
    """
    joints = place.endswith("joints")
    key_place, names_place = ("position_key", "position_names") if place.endswith("workspace") else ("key", "names")
    streams = [(index, spec) for index, spec in enumerate(contract.inputs) if spec.key == part.key]
    if not streams or not all(spec.is_vector for _, spec in streams):
        vectors = [key for key, feature in contract.features.items() if feature.kind == "vector"]
        raise ContractError(
            f"{contract.source}: {place}.{key_place} '{part.key}' is not a vector input; those are "
            f"{', '.join(vectors)}.{nearest_name(part.key, vectors)}"
        )
    names = part.names or (_arm_names(contract) if joints else ())
    expected = len(fields) or (ROTATION_WIDTH[part.rotation] if place.endswith("orientation") else len(names))
    if len(names) != expected:
        raise ContractError(f"{contract.source}: {place}.{names_place} expected {expected} entries, got {len(names)}.")
    known = {name: (index, i) for index, spec in streams for i, name in enumerate(spec.names)}
    for i, name in enumerate(names):
        if name not in known:
            raise ContractError(
                f"{contract.source}: {place}.{names_place}[{i}] '{name}' is not a number of {part.key}: "
                f"{', '.join(known)}.{nearest_name(name, known)}"
            )
        spec = contract.inputs[known[name][0]]
        wanted = fields[i] if fields else ""
        frame, called = contract.base_frame, "base_frame"
        if place.endswith(".base"):
            frame, called = contract.action.frame, "action.frame"
        if reason := _not_it(frame, called, spec, known[name][1], wanted, joints=joints):
            raise ContractError(f"{contract.source}: {place}.{names_place}[{i}] '{name}' {reason}.")
    return tuple(known[name] for name in names)


def _not_it(frame: str, called: str, spec: InputSpec, number: int, wanted: str, *, joints: bool) -> str:
    """Say why a number cannot be what it is named for, or return an empty string."""
    if joints:
        other = spec.type == _JOINT_STATE and spec.fields != ("position",)
        return f"is a joint's {spec.fields[0]} and not its position" if other else ""
    if spec.frame is not None and spec.frame != frame:
        return f"is measured in the frame '{spec.frame}' and not in {called} '{frame}'"
    field = (
        spec.fields[number].replace("translation", "position").replace("rotation", "orientation") if spec.fields else ""
    )
    if spec.transform is not None and spec.transform.parent != frame:
        return f"is measured in the frame '{spec.transform.parent}' and not in {called} '{frame}'"
    if wanted and spec.type != _JOINT_STATE and spec.fields and wanted not in field:
        return f"is the field {spec.fields[number]} and not {wanted}"
    return ""


def _missing_joints(contract: RobotContract) -> str:
    for name in _arm_names(contract):
        found = _joint_numbers(contract, name)
        if len(found) > 1:
            topics = " and ".join(contract.inputs[index].topic for index, _ in found)
            return f"'{name}' is measured on {topics}; say which one in action.measured.joints"
    missing = ", ".join(name for name in _arm_names(contract) if not _joint_numbers(contract, name))
    return (
        f"need the measured positions of the joints, and no JointState input holds {missing}; "
        "add one, or name the numbers in action.measured.joints"
    )


def _missing_pose(contract: RobotContract, part: str) -> str:
    axes = "xyz" if part == "position" else "xyzw"
    candidates = [contract.inputs[found[0][0]].key for found in _poses(contract, part, axes)]
    if len(candidates) > 1:
        return f"need the measured {part}, and {' and '.join(candidates)} hold one; say which in action.measured.{part}"
    extra = " or beside the box in position_key and position_names" if part == "position" else ""
    return (
        f"need the measured {part} of the end effector in '{contract.base_frame}', and no PoseStamped or Odometry "
        f"input holds it; add one, or name the numbers in action.measured.{part}{extra}"
    )
