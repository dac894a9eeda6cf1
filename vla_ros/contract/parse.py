"""YAML → `RobotContract`, with an error that names the file, the place, the value and the fix.

Holds the top level, the inputs and the checks between parts; `parse_action` reads the action. Only what the
YAML says is checked here, never a running robot.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from vla_ros.contract.measurement import check_measured, measured_sources
from vla_ros.contract.parse_action import parse_action
from vla_ros.contract.parse_depth import parse_depth
from vla_ros.contract.parse_joint_names import parse_joint_names
from vla_ros.contract.parse_parts import LATCHED_QOS, SENSOR_QOS, parse_alignment, parse_qos, text, topic
from vla_ros.contract.parse_transform import parse_transform
from vla_ros.contract.reader import Section, load_yaml
from vla_ros.contract.schema import (
    GOAL_IMAGE,
    INSTRUCTION,
    NEVER_TOO_OLD_S,
    AlignmentSpec,
    DepthSpec,
    ImageSpec,
    InputSpec,
    OnMissing,
    OnNewGoal,
    PointsSpec,
    RobotContract,
    WindowSpec,
)
from vla_ros.contract.types import INPUT_TYPES, MessageType
from vla_ros.data_types import ContractError, nearest_name

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
TEXT_TYPE = "std_msgs/msg/String"
_LATCH = AlignmentSpec("latch", "receive")


def load_contract(path: str | Path) -> RobotContract:
    """Read a contract file.

    Raises:
        ContractError: The file is missing or malformed, or the contract contradicts itself.
    """
    path = Path(path)
    return parse_contract(load_yaml(path, ContractError), str(path))


def parse_contract(content: Any, source: str) -> RobotContract:
    """Build a contract from parsed YAML.

    Args:
        content: The mapping that the file holds.
        source: Name for messages.

    Raises:
        ContractError: As `load_contract`.
    """
    top = Section(source, "", content, ContractError)
    fps = top.scalar("fps", int, minimum=1)
    control_rate_hz = top.scalar("control_rate_hz", int, fps, minimum=1)
    if control_rate_hz % fps:
        raise top.fail(
            "control_rate_hz", f"{control_rate_hz} is not a multiple of fps {fps}: steps would change between commands"
        )
    base_frame = text(top, "base_frame", "base_link")
    tool_frame = text(top, "tool_frame") if "tool_frame" in top else top.raw("tool_frame", None)
    if tool_frame == base_frame:
        raise top.fail("tool_frame", f"'{tool_frame}' is base_frame too; the tool moves in the base frame")
    streams = [_input(section) for section in top.sections("inputs")]
    sampled = [spec for spec in streams if not _says_what_to_do(spec)]
    contract = RobotContract(
        robot_type=text(top, "robot_type"),
        fps=fps,
        control_rate_hz=control_rate_hz,
        base_frame=base_frame,
        max_wait_s=top.scalar("max_wait_s", float, 1.0 / fps, minimum=0.0),
        inputs=tuple(sampled),
        action=parse_action(top.section("action"), base_frame, tool_frame),
        goals=_goals(top, [spec for spec in streams if _says_what_to_do(spec)], sampled),
        tool_frame=tool_frame,
        source=source,
    )
    top.finish()
    _check_keys(contract, top)
    _check_topics(contract, top)
    return _check_position(contract, top)


def _input(at: Section) -> InputSpec:
    type_name = at.scalar("type", str, choices=list(INPUT_TYPES))
    kind = INPUT_TYPES[type_name]
    key = _key(at, type_name)
    numeric = kind.form in ("window", "joints", "fields", "array", "transform")
    is_transform = kind.form == "transform"  # it has no header, but stamps inside
    alignment = parse_alignment(
        at,
        numeric=numeric,
        has_header=kind.has_header or is_transform,
        default="interpolate" if is_transform else "hold",
    )
    latched = alignment.method == "latch"
    if kind.form == "text" and not latched:
        raise at.fail("alignment.method", "of an instruction must be 'latch': it holds until there is another")
    camera = at.scalar("camera", str, "") if kind.form == "image" and latched else ""
    image, depth = _image(at.section("image"), key) if kind.form == "image" and not camera else (None, None)
    points = _points(at.section("points"), kind) if kind.form == "points" else None
    window = _window(at.section("window")) if kind.form == "window" else None
    transform = parse_transform(at.section("transform")) if is_transform else None
    if latched and (points or window or transform or depth):
        raise at.fail("alignment.method", f"'latch' is for goals: text, images and vectors, not for {type_name}")
    names, fields, ros_names = ((), (), ()) if not numeric and not window else _selection(at, kind)
    longest: Any = NEVER_TOO_OLD_S if latched else None
    spec = InputSpec(
        key=key,
        topic=topic(at),
        type=type_name,
        qos=parse_qos(at, LATCHED_QOS if latched else SENSOR_QOS),
        alignment=alignment,
        max_age_s=longest or at.scalar("max_age_s", float, minimum=0.0, exclusive=True),
        names=names,
        fields=fields,
        image=image,
        points=points,
        window=window,
        required=at.scalar("required", bool, True),
        on_missing=at.scalar("on_missing", str, "stop", choices=get_args(OnMissing)),  # type: ignore[arg-type] # checked
        frame=text(at, "frame") if "frame" in at else at.raw("frame", None),
        begins_episode=at.scalar("begins_episode", bool, True) if latched else False,
        on_new_goal=_on_new_goal(at, image=kind.form == "image") if latched else "keep",
        camera=camera,
        default=at.scalar("default", str, "") if kind.form == "text" else "",
        ros_names=ros_names,
        transform=transform,
        depth=depth,
    )
    at.finish()
    if spec.frame is not None and not kind.has_header:
        raise at.fail("frame", f"{type_name} carries no header and so no frame; leave it out")
    return spec


def _key(at: Section, type_name: str) -> str:
    key = at.scalar("key", str)
    if (key == INSTRUCTION) != (type_name == TEXT_TYPE):
        raise at.fail("key", f"'{INSTRUCTION}' is the instruction and of type {TEXT_TYPE}, got '{key}' of {type_name}")
    if key == INSTRUCTION:
        return key
    if not key.startswith(("observation.", "goal.")) or "/" in key or not all(key.split(".")):
        raise at.fail(
            "key", f"'{key}' must be 'observation.' or 'goal.' and a name, parts joined by single dots, no '/'"
        )
    return key


def _on_new_goal(at: Section, *, image: bool) -> OnNewGoal:
    # an arm that was shown another goal should not go on towards the last one; words often only refine it
    chosen: Any = at.scalar("on_new_goal", str, "zero" if image else "keep", choices=get_args(OnNewGoal))
    return chosen  # type: ignore[no-any-return]  # one of the choices


def _says_what_to_do(spec: InputSpec) -> bool:
    """Whether no dataset stores the input frame by frame: the instruction and images of goals."""
    return spec.key == INSTRUCTION or (spec.is_latched and bool(spec.camera))


def _selection(at: Section, kind: MessageType) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return names and message fields of the numbers of a vector or window, and other names in the messages."""
    chosen_by = "joints" if kind.form == "joints" else "names"
    fields: tuple[str, ...]
    ros_names: tuple[str, ...] = ()
    if kind.form == "joints":
        names, ros_names = parse_joint_names(at, "joints")
        fields = (at.scalar("field", str, "position", choices=("position", "velocity", "effort")),)
    elif kind.form == "array":
        names, fields = at.items("names", str), ()
    else:
        fields = at.items("fields", str, kind.fields, choices=kind.all_fields)
        names = at.items("names", str, fields, length=len(fields))
    if not names:
        raise at.fail("fields" if kind.form in ("fields", "window") else chosen_by, "must not be empty")
    if len(set(names)) != len(names):
        raise at.fail(chosen_by, f"repeats a name: {', '.join(names)}")
    return names, fields, ros_names


def _image(at: Section, key: str) -> tuple[ImageSpec | None, DepthSpec | None]:
    """Return the form of an image of colours, or of one of depth."""
    crop = at.items("crop", int, None, length=4)
    if crop is not None and (min(crop[:2]) < 0 or min(crop[2:]) < 1):
        raise at.fail("crop", f"is (top, left, height, width) in pixels of the incoming image, got {list(crop)}")
    spec = ImageSpec(at.scalar("height", int, minimum=1), at.scalar("width", int, minimum=1), crop)  # type: ignore[arg-type] # length checked
    depth = parse_depth(at, spec, key)
    at.finish()
    return (spec, None) if depth is None else (None, depth)


def _points(at: Section, kind: MessageType) -> PointsSpec:
    spec = PointsSpec(
        at.scalar("count", int, minimum=1),
        at.items("fields", str, kind.fields, choices=kind.all_fields or None),
    )
    at.finish()
    if not spec.fields or len(set(spec.fields)) != len(spec.fields):
        raise at.fail("fields", f"must name one field or more, each once, got {list(spec.fields)}")
    return spec


def _window(at: Section) -> WindowSpec:
    spec = WindowSpec(at.scalar("samples", int, minimum=1), at.scalar("period_s", float, minimum=0.0, exclusive=True))
    at.finish()
    return spec


def _goals(top: Section, given: list[InputSpec], sampled: list[InputSpec]) -> tuple[InputSpec, ...]:
    """Join the latched inputs with those of the short sections ``instruction`` and ``goal``, which mean the same."""
    goals = list(given)
    for name, key, read in (("instruction", INSTRUCTION, _instruction), ("goal", GOAL_IMAGE, _goal)):
        is_given = any(spec.key == key for spec in (*given, *sampled))
        if name in top:
            if is_given:
                raise top.fail(name, f"'{key}' is an input already; leave one of them out")
            goals.append(read(top.section(name)))
        else:
            top.raw(name, None)
            if key == INSTRUCTION and not is_given:
                goals.append(_instruction(top.section(name, {})))
    cameras = {spec.key: spec for spec in sampled if spec.image is not None}
    keys = [spec.key for spec in goals]
    for number, spec in enumerate(goals):
        place = "goal.camera" if "goal" in top else f"inputs: '{spec.key}': camera"
        if keys.index(spec.key) != number:
            raise top.fail("inputs", f"'{spec.key}' is given twice; keep one of them")
        if spec.camera and spec.camera not in cameras:
            hint = nearest_name(spec.camera, cameras)
            known = ", ".join(cameras) or "none"
            raise top.fail(place, f"'{spec.camera}' is not an image input; those are {known}.{hint}")
        if spec.camera:
            goals[number] = replace(spec, image=cameras[spec.camera].image)
    return tuple(sorted(goals, key=lambda spec: spec.key != INSTRUCTION))


def _instruction(at: Section) -> InputSpec:
    spec = InputSpec(
        key=INSTRUCTION,
        topic=topic(at, "/instruction"),
        type=TEXT_TYPE,
        qos=LATCHED_QOS,
        alignment=_LATCH,
        max_age_s=NEVER_TOO_OLD_S,
        begins_episode=True,
        on_new_goal=_on_new_goal(at, image=False),
        default=at.scalar("default", str, ""),
    )
    at.finish()
    return spec


def _goal(at: Section) -> InputSpec:
    spec = InputSpec(
        key=GOAL_IMAGE,
        topic=topic(at, "/goal_image"),
        type=at.scalar("type", str, IMAGE_TYPES[0], choices=IMAGE_TYPES),
        qos=parse_qos(at, LATCHED_QOS),
        alignment=_LATCH,
        max_age_s=NEVER_TOO_OLD_S,
        begins_episode=True,
        on_new_goal=_on_new_goal(at, image=True),
        camera=at.scalar("camera", str),
    )
    at.finish()
    return spec


def _check_keys(contract: RobotContract, top: Section) -> None:
    """Refuse streams of one key that cannot be joined to one vector."""
    by_key: dict[str, list[InputSpec]] = {}
    for index, spec in enumerate(contract.inputs):
        others = by_key.setdefault(spec.key, [])
        form = spec.image or spec.points or spec.window or spec.depth
        if others and (form or any(o.image or o.points or o.window or o.depth for o in others)):
            raise top.fail(f"inputs[{index}].key", f"'{spec.key}' is used twice; only vectors are joined")
        repeated = {name for other in others for name in other.names} & set(spec.names)
        if repeated:
            raise top.fail(
                f"inputs[{index}].key",
                f"'{spec.key}' already has numbers named {', '.join(sorted(repeated))}; "
                "give this stream another key or names",
            )
        others.append(spec)
    if not contract.inputs:
        raise top.fail("inputs", "must name at least one stream")


def _check_topics(contract: RobotContract, top: Section) -> None:
    """Refuse one topic under two types, and two commands on one topic: a receiver would take both for its own."""
    action = contract.action
    uses = [(f"inputs[{i}]", spec.topic, spec.type) for i, spec in enumerate(contract.inputs)]
    uses += [("action.record", record.topic, record.type) for record in action.records]
    uses += [(f"action.sinks[{i}]", sink.topic, sink.type) for i, sink in enumerate(action.sinks)]
    names = {INSTRUCTION: "instruction", GOAL_IMAGE: "goal"}
    uses += [(names.get(s.key, f"inputs: '{s.key}'"), s.topic, s.type) for s in reversed(contract.goals)]
    seen: dict[str, tuple[str, str]] = {}
    for place, name, type_name in uses:
        other, other_type = seen.setdefault(name, (place, type_name))
        if other_type != type_name:
            raise top.fail(f"{place}.topic", f"'{name}' carries {type_name} here and {other_type} at {other}")
    topics = [sink.topic for sink in action.sinks]
    for index, name in enumerate(topics):
        if name in topics[:index]:
            raise top.fail(
                f"action.sinks[{index}].topic", f"'{name}' is already a sink; one topic takes one command stream"
            )


def _check_position(contract: RobotContract, top: Section) -> RobotContract:
    """Refuse limits whose filter could not know where the robot is; return the contract with a box's position named."""
    limits = contract.action.limits
    if bool(limits.position_key) != bool(limits.position_names):
        raise top.fail("action.limits.workspace", "needs position_key and position_names together")
    named = contract.action.measured.position
    if named.key and limits.position_key and (named.key, named.names) != (limits.position_key, limits.position_names):
        raise top.fail(
            "action.limits.workspace.position_key", "and action.measured.position name different numbers; keep one"
        )
    check_measured(contract, top)
    sources = measured_sources(contract)
    if not limits.workspace_min or limits.position_key or sources.position is None:
        return contract
    streams = [contract.inputs[index] for index, _ in sources.position]
    names = tuple(stream.names[number] for stream, (_, number) in zip(streams, sources.position, strict=True))
    limits = replace(limits, position_key=streams[0].key, position_names=names)
    return replace(contract, action=replace(contract.action, limits=limits))
