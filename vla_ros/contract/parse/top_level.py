"""The top level of a contract and the checks between its parts.

An error names the file, the place, the value and the fix. Only what the YAML says is checked, never a running robot.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_ros.contract.measurement import check_measured, measured_sources
from vla_ros.contract.parse.action import parse_action
from vla_ros.contract.parse.inputs import parse_goal, parse_input, parse_instruction
from vla_ros.contract.schema import FPS, GOAL_IMAGE, INSTRUCTION, InputSpec, RobotContract
from vla_ros.contract.schema.file_forms import ContractFile
from vla_ros.data_types import ContractError, nearest_name
from vla_ros.schema import Narrow, Section, given, load_yaml, read_fields
from vla_ros.schema.values import shown


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
    for place, text in _unprintable(content, ""):
        raise top.fail(place, f"holds a character that cannot be printed: {shown(text)}")
    fps = top.scalar("fps", int, about=FPS)
    base_frame = top.scalar("base_frame", str, "base_link")
    streams = [parse_input(section) for section in top.sections("inputs")]
    sampled = tuple(spec for spec in streams if not _says_what_to_do(spec))
    known = {
        "control_rate_hz": Narrow(default=fps),
        "base_frame": Narrow(default="base_link"),
        "max_wait_s": Narrow(default=1.0 / fps),
        "inputs": given(sampled),
        "action": given(parse_action(top.section("action"), base_frame, top.optional("tool_frame", str))),
        "goals": given(_goals(top, [spec for spec in streams if _says_what_to_do(spec)], sampled)),
        "source": given(source),
        "instruction_file": given(None),
        "goal_file": given(None),
    }
    values = read_fields(top, ContractFile, known)
    contract = RobotContract(**{name: values[name] for name in RobotContract.__dataclass_fields__ if name in values})
    _check_rates_and_frames(contract, top)
    _check_keys(contract, top)
    _check_topics(contract, top)
    return _check_position(contract, top)


def _unprintable(content: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield names and values that hold control characters or half characters; an instruction may have several lines."""
    if isinstance(content, str):
        lines = "".join(content.split("\n")) if place.endswith("default") else content
        if not lines.isprintable():
            yield place, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if not str(key).isprintable():
                yield place, str(key)
            yield from _unprintable(value, f"{place}.{key}" if place else str(key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _unprintable(value, f"{place}[{index}]")


def _says_what_to_do(spec: InputSpec) -> bool:
    """Whether no dataset stores the input frame by frame: the instruction and images of goals."""
    return spec.key == INSTRUCTION or (spec.is_latched and bool(spec.camera))


def _goals(top: Section, given_: list[InputSpec], sampled: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """Join the latched inputs with those of the short sections ``instruction`` and ``goal``, which mean the same."""
    goals = list(given_)
    for name, key, read in (("instruction", INSTRUCTION, parse_instruction), ("goal", GOAL_IMAGE, parse_goal)):
        is_given = any(spec.key == key for spec in (*given_, *sampled))
        if name in top:
            if is_given:
                raise top.fail(name, f"'{key}' is an input already; leave one of them out")
            goals.append(read(top.section(name)))
        else:
            top.raw(name, None)
            if key == INSTRUCTION and not is_given:
                goals.append(read(top.section(name, {})))
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


def _check_rates_and_frames(contract: RobotContract, top: Section) -> None:
    if contract.control_rate_hz % contract.fps:
        raise top.fail(
            "control_rate_hz",
            f"{contract.control_rate_hz} is not a multiple of fps {contract.fps}: steps would change between commands",
        )
    if contract.tool_frame == contract.base_frame:
        raise top.fail("tool_frame", f"'{contract.tool_frame}' is base_frame too; the tool moves in the base frame")


def _check_keys(contract: RobotContract, top: Section) -> None:
    """Refuse streams of one key that cannot be joined to one vector."""
    by_key: dict[str, list[InputSpec]] = {}
    for index, spec in enumerate(contract.inputs):
        others = by_key.setdefault(spec.key, [])
        if others and not all(other.is_vector for other in (spec, *others)):
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
