"""``action.sinks`` and ``action.unsent`` of a contract: every number of the action is sent, or said not to be."""

from collections.abc import Sequence

from vla_ros.contract.parse.joint_names import parse_joint_names
from vla_ros.contract.schema import COMMAND_QOS, GripperSpec, SinkSpec
from vla_ros.contract.types import SINK_REPRESENTATIONS, AsSink, message_types
from vla_ros.schema import ABSENT, REQUIRED, Narrow, Section, given, read_dataclass

_TWISTS = ("geometry_msgs/msg/TwistStamped", "geometry_msgs/msg/Twist")
_NAMING = (
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
    "control_msgs/action/ParallelGripperCommand",
)


def parse_sinks(
    action: Section, representation: str, rotation: str, names: tuple[str, ...], gripper: GripperSpec | None
) -> tuple[tuple[SinkSpec, ...], tuple[str, ...]]:
    """Read the sinks and the names that none of them carries.

    Raises:
        UserError: There is no sink, one cannot carry the action, or a number of the action is neither carried nor named
            in ``unsent``.
    """
    sinks = tuple(_sink(section, representation, rotation, names, gripper) for section in action.sections("sinks"))
    unsent = action.items("unsent", str, (), choices=names)
    if not sinks:
        raise action.fail("sinks", "must name at least one topic to publish the action on")
    carried = {name for sink in sinks for name in carried_names(sink, names, gripper)}
    if missing := [name for name in names if name not in carried and name not in unsent]:
        raise action.fail(
            "sinks",
            f"carry no {', '.join(missing)}: the robot would never be told; add a sink, or name them in action.unsent",
        )
    if both := [name for name in unsent if name in carried]:
        raise action.fail("unsent", f"names {', '.join(both)}, which a sink carries; leave them out")
    return sinks, unsent


def carried_names(sink: SinkSpec, names: Sequence[str], gripper: GripperSpec | None) -> tuple[str, ...]:
    """Return the numbers of the action that a sink tells the robot; none of one that is telemetry."""
    kind = _kind(sink.type)
    if kind.is_telemetry:
        return ()
    if kind.carries == "motion":
        return tuple(name for name in names if gripper is None or name != gripper.name)
    return sink.names or tuple(names)


def carries_chunks(sink: SinkSpec) -> bool:
    """Whether a sink gets whole chunks, and not single commands."""
    return _kind(sink.type).whole_chunk


def _kind(type_name: str) -> AsSink:
    kind = message_types()[type_name].as_sink
    if kind is None:
        raise KeyError(f"{type_name} is no sink")
    return kind


def _sink(
    at: Section, representation: str, rotation: str, names: tuple[str, ...], gripper: GripperSpec | None
) -> SinkSpec:
    """Read one sink. Fields that mean nothing for its type are refused, not ignored."""
    type_name = at.scalar("type", str, choices=list(SINK_REPRESENTATIONS))
    kind = _kind(type_name)
    chosen, ros_names = _names(at, type_name, kind, names) if kind.carries in ("any", "one") else ((), ())
    if representation not in kind.representations and (gripper is None or chosen != (gripper.name,)):
        fitting = [name for name, forms in SINK_REPRESENTATIONS.items() if representation in forms]
        raise at.fail("type", f"{type_name} cannot carry a {representation} action; these can: {', '.join(fitting)}")
    if kind.needs_rotation and rotation == "none" and representation != "trajectory":
        raise at.fail("type", f"{type_name} carries an orientation, and the action's rotation is 'none'")
    is_twist = type_name in _TWISTS
    unitless = is_twist and at.scalar("units", str, "si") == "unitless"
    for field in ("linear_scale", "angular_scale"):
        if field in at and not unitless:
            raise at.fail(field, "has a meaning only for a Twist or TwistStamped with 'units: unitless'")
    of_gripper = Narrow() if "/action/" in type_name else ABSENT
    context = {
        "qos": Narrow(default=COMMAND_QOS),
        "names": given(chosen),
        "ros_names": given(ros_names),
        "units": Narrow() if is_twist else ABSENT,
        "linear_scale": REQUIRED if unitless else ABSENT,
        "angular_scale": REQUIRED if unitless else ABSENT,
        "open": of_gripper,
        "closed": of_gripper,
        "max_effort": of_gripper,
    }
    spec = read_dataclass(at, SinkSpec, context)
    _check_ends(at, spec, is_gripper=gripper is not None and chosen == (gripper.name,))
    return spec


def _check_ends(at: Section, spec: SinkSpec, *, is_gripper: bool) -> None:
    """Refuse one end of a gripper without the other, two that are one position, and ends of what is no gripper."""
    if (spec.open is None) != (spec.closed is None):
        missing = "open" if spec.open is None else "closed"
        raise at.fail(missing, "is required and missing; give both ends, or none to send the action's number as it is")
    if spec.open is not None and not is_gripper:
        raise at.fail(
            "open",
            "and closed scale action.gripper, and this number is not it; leave both out to send the number as it is",
        )
    if spec.open is not None and spec.open == spec.closed:
        raise at.fail("closed", f"must differ from open, both are {spec.open:g}")


def _names(
    at: Section, type_name: str, kind: AsSink, names: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which names a sink carries, empty for all, and what its messages call them."""
    chosen, ros_names = parse_joint_names(at, "names", names, required=False)
    if kind.carries == "one" and len(chosen) != 1:
        raise at.fail("names", f"of a {type_name} must hold one name, got {', '.join(chosen) or 'none'}")
    if ros_names and type_name not in _NAMING:
        raise at.fail("names", f"must be a list: {type_name} does not name its numbers")
    return chosen, ros_names
