"""One entry of ``inputs``, and the short sections ``instruction`` and ``goal`` that stand for latched ones."""

from vla_ros.contract.parse.form import NUMERIC, check_form
from vla_ros.contract.parse.joint_names import parse_joint_names
from vla_ros.contract.parse.sensor_keys import check_sensor_key
from vla_ros.contract.schema import (
    GOAL_IMAGE,
    INSTRUCTION,
    LATCHED_QOS,
    NEVER_TOO_OLD_S,
    SENSOR_QOS,
    Alignment,
    AlignmentSpec,
    InputSpec,
)
from vla_ros.contract.schema.file_forms import GoalFile, InputFile, InstructionFile, as_input
from vla_ros.contract.types import INPUT_TYPES, MessageType
from vla_ros.schema import ABSENT, REQUIRED, Context, Narrow, Section, given, read_dataclass

TEXT_TYPE = "std_msgs/msg/String"
_LATCH = AlignmentSpec("latch", "receive")


def parse_input(at: Section) -> InputSpec:
    """Read one input.

    Raises:
        UserError: A field is wrong, means nothing for the type, or contradicts another.
    """
    type_name = at.scalar("type", str, choices=list(INPUT_TYPES))
    kind = INPUT_TYPES[type_name]
    _check_key(at, type_name)
    latched = at.section("alignment", {}).scalar("method", str, "hold") == "latch"
    if kind.form == "text" and not latched:
        raise at.fail("alignment.method", "of an instruction must be 'latch': it holds until there is another")
    if latched and kind.form in ("points", "window", "transform"):
        raise at.fail("alignment.method", f"'latch' is for goals: text, images and vectors, not for {type_name}")
    spec = read_dataclass(at, InputFile, {**_of_form(at, kind, latched), **_of_stream(kind, latched)})
    is_stamped = kind.has_header or kind.form == "transform"  # which has no header, but stamps inside
    check_alignment(at, spec.alignment, numeric=kind.form in NUMERIC, has_header=is_stamped)
    check_form(at, spec)
    if spec.frame is not None and not kind.has_header:
        raise at.fail("frame", f"{type_name} carries no header and so no frame; leave it out")
    if not spec.begins_episode and spec.on_new_goal == "zero" and "on_new_goal" in at:
        raise at.fail("on_new_goal", "'zero' has a meaning only with 'begins_episode: true'; leave it out")
    joints = {"names": spec.joints, "fields": (spec.field,)} if kind.form == "joints" else {}
    found = as_input(spec, **joints)
    check_sensor_key(at, found)
    return found


def parse_instruction(at: Section) -> InputSpec:
    """Read the section ``instruction``."""
    spec = read_dataclass(at, InstructionFile)
    return InputSpec(
        INSTRUCTION,
        spec.topic,
        TEXT_TYPE,
        LATCHED_QOS,
        _LATCH,
        NEVER_TOO_OLD_S,
        begins_episode=True,
        on_new_goal=spec.on_new_goal,
        default=spec.default,
    )


def parse_goal(at: Section) -> InputSpec:
    """Read the section ``goal``."""
    spec = read_dataclass(at, GoalFile, {"qos": Narrow(default=LATCHED_QOS)})
    return InputSpec(
        GOAL_IMAGE,
        spec.topic,
        spec.type,
        spec.qos,
        _LATCH,
        NEVER_TOO_OLD_S,
        begins_episode=True,
        on_new_goal=spec.on_new_goal,
        camera=spec.camera,
    )


def check_alignment(at: Section, alignment: AlignmentSpec, *, numeric: bool, has_header: bool) -> None:
    """Refuse an alignment that does not fit the stream.

    Args:
        at: The stream.
        alignment: Its alignment.
        numeric: Whether its values are numbers that can be interpolated.
        has_header: Whether its messages carry a stamp.

    Raises:
        UserError: Names the method or the timeline.
    """
    method, timeline = alignment.method, alignment.timeline
    if method == "latch" and timeline != "receive":
        raise at.fail("alignment.timeline", "of a latched input is always 'receive': it holds from the moment it came")
    if method == "interpolate" and not numeric:
        raise at.fail("alignment.method", "'interpolate' needs numbers; images and points take 'hold' or 'nearest'")
    if timeline == "header" and not has_header:
        raise at.fail("alignment.timeline", "must be 'receive' for this type, which carries no header")


def _of_stream(kind: MessageType, latched: bool) -> Context:
    """Return what being latched says about an input's fields."""
    common = {
        "qos": Narrow(default=LATCHED_QOS if latched else SENSOR_QOS),
        "alignment": Narrow(default=_LATCH if latched else AlignmentSpec(_usual_method(kind))),
    }
    if not latched:
        frozen = Narrow(default=1.0 if kind.form == "image" else 0.0)
        absent = {"begins_episode": ABSENT, "on_new_goal": ABSENT, "camera": ABSENT, "default": ABSENT}
        return {**common, **absent, "max_frozen_s": frozen}
    # an arm that was shown another goal should not go on towards the last one; words often only refine it
    return {
        **common,
        "max_age_s": given(NEVER_TOO_OLD_S),
        "max_frozen_s": ABSENT,
        "on_frozen": ABSENT,
        "begins_episode": Narrow(default=True),
        "on_new_goal": Narrow(default="zero" if kind.form == "image" else "keep"),
        "camera": Narrow() if kind.form == "image" else ABSENT,
        "default": Narrow() if kind.form == "text" else ABSENT,
    }


def _usual_method(kind: MessageType) -> Alignment:
    return "interpolate" if kind.form == "transform" else "hold"


def _of_form(at: Section, kind: MessageType, latched: bool) -> Context:
    """Return what the form of a type says about an input's fields."""
    context = dict.fromkeys(("image", "points", "window", "transform", "joints", "field", "names", "fields"), ABSENT)
    if kind.form == "image" and not (latched and "camera" in at):
        context["image"] = REQUIRED
    elif kind.form == "points":
        fields = Narrow(default=kind.fields, choices=kind.all_fields or None)
        context["points"] = Narrow(required=True, within={"fields": fields})
    elif kind.form == "joints":
        names, ros_names = parse_joint_names(at, "joints")
        context |= {"joints": given(names), "ros_names": given(ros_names), "field": Narrow()}
    elif kind.form == "array":
        context["names"] = REQUIRED
    elif kind.form in ("fields", "window", "transform"):
        fields = Narrow(default=kind.fields, choices=kind.all_fields)
        chosen = at.items("fields", str, kind.fields, choices=kind.all_fields)
        context |= {"fields": fields, "names": Narrow(default=chosen, length=len(chosen))}
        if kind.form != "fields":
            context[kind.form] = REQUIRED
    return context


def _check_key(at: Section, type_name: str) -> None:
    key = at.scalar("key", str)
    if (key == INSTRUCTION) != (type_name == TEXT_TYPE):
        raise at.fail("key", f"'{INSTRUCTION}' is the instruction and of type {TEXT_TYPE}, got '{key}' of {type_name}")
    if key == INSTRUCTION:
        return
    if not key.startswith(("observation.", "goal.")) or "/" in key or not all(key.split(".")):
        raise at.fail(
            "key", f"'{key}' must be 'observation.' or 'goal.' and a name, parts joined by single dots, no '/'"
        )
