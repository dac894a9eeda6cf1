"""``action.record`` of a contract: one topic, or a list of topics of which each gives some of the action's numbers."""

from vla_ros.contract.parse.inputs import check_alignment
from vla_ros.contract.parse.joint_names import parse_joint_names
from vla_ros.contract.schema import COMMAND_QOS, ROTATION_WIDTH, AlignmentSpec, GripperSpec, RecordSpec
from vla_ros.contract.types import ACTION_SOURCES, AsRecord, has_header, message_types
from vla_ros.schema import Narrow, Section, given, read_dataclass

_NAMING = ("sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory")


def parse_records(
    action: Section, representation: str, rotation: str, names: tuple[str, ...], gripper: GripperSpec | None
) -> tuple[RecordSpec, ...]:
    """Read the record or its parts.

    Args:
        action: The section of the action.
        representation: Of the action.
        rotation: Of the action.
        names: Of the action.
        gripper: Of the action.

    Raises:
        UserError: A type cannot carry the action or its part; a number is given by none of the parts, or by two.
    """
    if not isinstance(action.content.get("record"), list):
        return (_record(action.section("record"), representation, names, gripper, whole=True),)
    sections = action.sections("record")
    records = tuple(_record(at, representation, names, gripper, whole=len(sections) == 1) for at in sections)
    read = [name for record in records for name in record.names or names]
    if missing := [name for name in names if name not in read]:
        raise action.fail("record", f"gives no {', '.join(missing)}; every number of the action is read from one part")
    for name in names:
        if read.count(name) > 1:
            raise action.fail("record", f"gives '{name}' {read.count(name)} times; leave it to one part")
    turn = names[3 : 3 + ROTATION_WIDTH[rotation]] if representation in ("displacement", "twist", "pose") else ()
    for index, record in enumerate(records):
        part = record.names or names
        if turn and turn[0] in part and part[part.index(turn[0]) :][: len(turn)] != turn:
            raise action.fail(f"record[{index}].names", f"must hold the rotation's numbers together: {', '.join(turn)}")
    return records


def _record(
    at: Section, representation: str, names: tuple[str, ...], gripper: GripperSpec | None, *, whole: bool
) -> RecordSpec:
    type_name = at.scalar("type", str, choices=list(ACTION_SOURCES))
    kind = message_types()[type_name].as_record
    if kind is None:
        raise KeyError(f"{type_name} is no record")
    by_name = not whole and kind.carries in ("any", "one")  # a mistake in a name is told before what the names are
    part, ros_names = _names(at, kind, names, gripper, whole=whole) if by_name else ((), ())
    if representation not in kind.representations and (gripper is None or part != (gripper.name,)):
        fitting = [name for name, forms in ACTION_SOURCES.items() if representation in forms]
        raise at.fail("type", f"{type_name} cannot carry a {representation} action; these can: {', '.join(fitting)}")
    if not by_name:
        part, ros_names = _names(at, kind, names, gripper, whole=whole)
    context = {
        "qos": Narrow(default=COMMAND_QOS),
        "alignment": Narrow(default=AlignmentSpec()),
        "names": given(part),
        "ros_names": given(ros_names),
    }
    spec = read_dataclass(at, RecordSpec, context)
    check_alignment(at, spec.alignment, numeric=True, has_header=has_header(type_name))
    if spec.next_state and representation not in ("pose", "joint_position", "trajectory"):
        raise at.fail(
            "next_state", f"is of an absolute action; a {representation} says how the robot moves, not where to"
        )
    return spec


def _names(
    at: Section, kind: AsRecord, names: tuple[str, ...], gripper: GripperSpec | None, *, whole: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of the action's names a message gives, empty for all, and what it calls them."""
    type_name = at.content.get("type")
    if kind.carries == "motion":
        if gripper is not None and whole:
            raise at.fail(
                "type",
                f"{type_name} carries no gripper, and the action has one, '{gripper.name}'; make the record a list and "
                "give the gripper in another part",
            )
        return ((), ()) if gripper is None else (tuple(name for name in names if name != gripper.name), ())
    if kind.carries == "all":
        return (), ()
    if "names" not in at and whole and kind.carries == "any":
        at.items("names", str, (), choices=names)
        return (), ()
    chosen, ros_names = parse_joint_names(at, "names", names)
    if not chosen or len(set(chosen)) != len(chosen) or (kind.carries == "one" and len(chosen) != 1):
        wanted = "one name" if kind.carries == "one" else "one name or more, each once"
        raise at.fail("names", f"must hold {wanted}, got {', '.join(chosen) or 'none'}")
    if ros_names and type_name not in _NAMING:
        raise at.fail("names", f"must be a list: {type_name} does not name its numbers")
    if whole and set(chosen) != set(names):
        missing = ", ".join(name for name in names if name not in chosen)
        raise at.fail("names", f"leaves out {missing}; make the record a list and give them in another part")
    return chosen, ros_names
