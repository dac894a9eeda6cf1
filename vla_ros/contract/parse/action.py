"""The ``action`` section of a contract: names, representation, gripper, record, sinks, limits."""

from typing import Any, get_args

from vla_ros.contract.parse.limits import parse_limits, parse_measured
from vla_ros.contract.parse.record import parse_records
from vla_ros.contract.parse.sinks import carries_chunks, parse_sinks
from vla_ros.contract.schema import (
    ROTATION_WIDTH,
    ActionSpec,
    GripperSpec,
    Representation,
)
from vla_ros.data_types import nearest_name
from vla_ros.schema import Narrow, Section, given, read_dataclass


def parse_action(at: Section, base_frame: str, tool_frame: str | None) -> ActionSpec:
    """Read the action.

    Args:
        at: The section.
        base_frame: The frame of its motion unless it says another.
        tool_frame: The other frame that it may be given in.

    Raises:
        UserError: A field is wrong, or the parts contradict each other.
    """
    representation: Any = at.scalar("representation", str, choices=get_args(Representation))
    rotation: Any = at.scalar("rotation", str, "none", choices=tuple(ROTATION_WIDTH))
    names = at.items("names", str)
    gripper = _gripper(at.section("gripper"), names) if "gripper" in at else at.raw("gripper", None)
    _check_names(at, representation, rotation, names, gripper)
    records = parse_records(at, representation, rotation, names, gripper)
    sinks, unsent = parse_sinks(at, representation, rotation, names, gripper)
    spec = read_dataclass(
        at,
        ActionSpec,
        {
            "key": Narrow(default="action"),
            "rotation": Narrow(default="none"),
            "units": Narrow(length=len(names)),
            "frame": Narrow(default=base_frame),
            "gripper": given(gripper),
            "record": given(records[0]),
            "also_recorded": given(records[1:]),
            "sinks": given(sinks),
            "unsent": given(unsent),
            "limits": given(parse_limits(at.section("limits", {}), names, representation, rotation, gripper)),
            "measured": given(parse_measured(at.section("measured", {}), representation)),
        },
    )
    _check_frame(at, spec, base_frame, tool_frame)
    if spec.representation != "trajectory" and "tracker" in at:
        raise at.fail("tracker", f"has a meaning only for a trajectory, not for a {spec.representation}")
    if spec.representation == "trajectory":
        _check_tracked(at, spec)
    if spec.past_end != "hold" and "max_hold_s" in at:
        raise at.fail("max_hold_s", f"has a meaning only with 'past_end: hold', not with '{spec.past_end}'")
    return spec


def _check_tracked(at: Section, spec: ActionSpec) -> None:
    """Refuse sinks of single commands without the speeds that a late base may catch up with."""
    for field in ("max_speed", "max_angular_speed"):
        if getattr(spec.limits, field) is None and any(not carries_chunks(sink) for sink in spec.sinks):
            raise at.fail(
                f"limits.{field}", "is required: it is how fast a base that is late may follow its trajectory"
            )


def _check_frame(at: Section, spec: ActionSpec, base_frame: str, tool_frame: str | None) -> None:
    """Check the frame of the motion: the filter can hold a box in no frame that it does not know."""
    if spec.representation == "trajectory":
        if spec.frame == base_frame:
            raise at.fail(
                "frame",
                f"of a trajectory is a fixed frame like odom; '{base_frame}' is base_frame, which moves",
            )
        return
    known = [base_frame] if tool_frame is None else [base_frame, tool_frame]
    if spec.frame not in known:
        hint = nearest_name(spec.frame, known)
        named = "" if tool_frame else "; name the end effector's frame in tool_frame to give motions in it"
        raise at.fail(
            "frame", f"'{spec.frame}' is neither base_frame nor tool_frame ({', '.join(known)}){named}.{hint}"
        )
    if spec.representation == "joint_position" and spec.frame != base_frame:
        raise at.fail("frame", f"'{spec.frame}' has no meaning for joint positions; leave it out")


def _check_names(
    at: Section, representation: str, rotation: str, names: tuple[str, ...], gripper: GripperSpec | None
) -> None:
    """Refuse names that do not spell the representation: their order gives the numbers their meaning."""
    if not names or len(set(names)) != len(names):
        raise at.fail("names", f"must hold one name or more, each once, got {list(names)}")
    if representation == "joint_position":
        if rotation != "none":
            raise at.fail("rotation", f"must be 'none' for joint positions, got '{rotation}'")
        return
    if gripper is not None and names[-1] != gripper.name:
        raise at.fail("gripper.name", f"must be the last number of the action, '{names[-1]}', got '{gripper.name}'")
    if representation == "planar_twist":
        _check_planar(at, rotation, names, len(names) - (gripper is not None))
        return
    if representation == "trajectory":
        if rotation != "none" or gripper is not None:
            raise at.fail("rotation", "and gripper have no meaning for a trajectory: its numbers are x, y and yaw")
        if len(names) != 3:
            raise at.fail("names", f"a trajectory has x, y and yaw of a waypoint, got {', '.join(names)}")
        return
    if representation == "twist" and rotation not in ("none", "rotation_vector"):
        raise at.fail("rotation", f"of a twist is an angular velocity, 'rotation_vector' or 'none', got '{rotation}'")
    expected = 3 + ROTATION_WIDTH[rotation] + (gripper is not None)
    if len(names) != expected:
        raise at.fail(
            "names",
            f"a {representation} with rotation '{rotation}' and {'a' if gripper else 'no'} gripper "
            f"has {expected} numbers, got {len(names)}: {', '.join(names)}",
        )


def _check_planar(at: Section, rotation: str, names: tuple[str, ...], motion: int) -> None:
    if rotation != "none":
        raise at.fail("rotation", f"must be 'none' for a planar twist, whose last number turns, got '{rotation}'")
    if motion not in (2, 3):
        raise at.fail(
            "names",
            "a planar_twist has linear x, angular z, or linear x, y, angular z, and then the gripper if there is one; "
            f"got {', '.join(names)}",
        )


def _gripper(at: Section, names: tuple[str, ...]) -> GripperSpec:
    spec = read_dataclass(at, GripperSpec, {"name": Narrow(choices=names)})
    if spec.open == spec.closed:
        raise at.fail("closed", f"must differ from open, both are {spec.open:g}")
    return spec
