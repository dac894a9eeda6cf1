"""The ``action`` section of a contract: names, representation, gripper, record, sinks, limits."""

from typing import Any, get_args

from vla_ros.contract.parse_limits import parse_limits, parse_measured
from vla_ros.contract.parse_parts import text
from vla_ros.contract.parse_record import parse_records
from vla_ros.contract.parse_sinks import parse_sinks
from vla_ros.contract.reader import Section
from vla_ros.contract.schema import (
    ROTATION_WIDTH,
    ActionSpec,
    GripperSpec,
    Representation,
)
from vla_ros.data_types import nearest_name


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
    past_end: Any = at.scalar("past_end", str, "zero", choices=("hold", "zero", "stop"))
    spec = ActionSpec(
        key=at.scalar("key", str, "action", choices=("action",)),
        names=names,
        units=at.items("units", str, length=len(names)),
        representation=representation,
        rotation=rotation,
        frame=_frame(at, base_frame, tool_frame),
        record=records[0],
        sinks=sinks,
        limits=parse_limits(at.section("limits", {}), names, representation, rotation, gripper),
        gripper=gripper,
        past_end=past_end,
        max_hold_s=at.scalar("max_hold_s", float, 0.1, minimum=0.0),
        measured=parse_measured(at.section("measured", {}), representation),
        also_recorded=records[1:],
        unsent=unsent,
    )
    at.finish()
    return spec


def _frame(at: Section, base_frame: str, tool_frame: str | None) -> str:
    """Read the frame of the motion: the filter can hold a box in no frame that it does not know."""
    frame = text(at, "frame", base_frame)
    known = [base_frame] if tool_frame is None else [base_frame, tool_frame]
    if frame not in known:
        hint = nearest_name(frame, known)
        named = "" if tool_frame else "; name the end effector's frame in tool_frame to give motions in it"
        raise at.fail("frame", f"'{frame}' is neither base_frame nor tool_frame ({', '.join(known)}){named}.{hint}")
    return frame


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
    if representation == "planar_twist":
        _check_planar(at, rotation, names, gripper)
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
    if gripper is not None and names[-1] != gripper.name:
        raise at.fail("gripper.name", f"must be the last number of the action, '{names[-1]}', got '{gripper.name}'")


def _check_planar(at: Section, rotation: str, names: tuple[str, ...], gripper: GripperSpec | None) -> None:
    if rotation != "none":
        raise at.fail("rotation", f"must be 'none' for a planar twist, whose last number turns, got '{rotation}'")
    motion = len(names) - (gripper is not None)
    if motion not in (2, 3):
        raise at.fail(
            "names",
            "a planar_twist has linear x, angular z, or linear x, y, angular z, and then the gripper if there is one; "
            f"got {', '.join(names)}",
        )
    if gripper is not None and names[-1] != gripper.name:
        raise at.fail("gripper.name", f"must be the last number of the action, '{names[-1]}', got '{gripper.name}'")


def _gripper(at: Section, names: tuple[str, ...]) -> GripperSpec:
    spec = GripperSpec(at.scalar("name", str, choices=names), at.scalar("open", float), at.scalar("closed", float))
    at.finish()
    if spec.open == spec.closed:
        raise at.fail("closed", f"must differ from open, both are {spec.open:g}")
    return spec
