#!/usr/bin/env python3
"""Write docs/contract.md: every field that a contract may have, with type, default and meaning.

Names, types, defaults and choices are what the parser asks for while it reads sample contracts; only the meanings are
written here. A field without a meaning, and a meaning without a field, stop the script.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vla_ros.contract import Section, parse_contract  # noqa: E402
from vla_ros.contract import parse as parser  # noqa: E402
from vla_ros.contract.parse_parts import COMMAND_QOS, LATCHED_QOS, SENSOR_QOS  # noqa: E402

TARGET = ROOT / "docs" / "contract.md"

INTRODUCTION = """\
# The robot's contract

<!-- Written by scripts/generate_contract_docs.py (`make docs`). Edit the script or the parser, not this file. -->

One YAML file per robot, under `config/robots/`, says what a policy sees and does. The policy node, the recorder, the
converter and the replay read the same file, and its hash travels into every dataset and checkpoint.
`vla_ros contract check FILE` reads one and names the first mistake by file, place, value and nearest name.
`config/robots/metaworld_sawyer.yaml` is a complete example.

`required` as a default means that the field must be there. An unknown or misspelt field is an error, and so is a field
that has no meaning for the type beside it. Topics are full names, as bags store them; launch remapping still applies.
ROS types are listed in [message types](message_types.md).
Numbers are finite. Streams of the same key are joined to one vector, in the order of the file.
"""

SECTIONS = {
    "": "Top level",
    "inputs[]": "`inputs`: the streams that are observed",
    "inputs[].image": "`image`: form of an Image or CompressedImage",
    "inputs[].image.depth": "`image.depth`: of an image of distances",
    "inputs[].points": "`points`: form of a PointCloud2 or LaserScan",
    "inputs[].window": "`window`: form of an Imu",
    "inputs[].transform": "`transform`: which of a TFMessage",
    "alignment": "`alignment` of an input or of the record",
    "qos": "`qos` of an input, the goal, the record or a sink",
    "action": "`action`: what a policy predicts",
    "action.gripper": "`action.gripper`",
    "action.record": "`action.record`: where the demonstrator's action is read",
    "action.sinks[]": "`action.sinks`: where commands are published",
    "action.limits": "`action.limits`: what the [safety filter](safety.md) holds",
    "action.limits.workspace": "`action.limits.workspace`",
    "action.measured": "`action.measured`: where the robot's state is measured",
    "action.measured.position": "`action.measured.position`",
    "action.measured.orientation": "`action.measured.orientation`",
    "action.measured.joints": "`action.measured.joints`",
    "instruction": "`instruction`: language",
    "goal": "`goal`: pictures of what shall be reached",
}
"""Where a mapping stands → heading, in the order of the page."""

MEANINGS = {
    "robot_type": "Name of the robot, stored in datasets and checkpoints. Part of the hash.",
    "fps": "Ticks per second of observations, dataset rows and action steps. Part of the hash.",
    "control_rate_hz": "Commands per second; a multiple of `fps`.",
    "base_frame": "frame_id of the robot's base (REP-105).",
    "tool_frame": "frame_id of the end effector; needed for motions that are given in it.",
    "max_wait_s": "How long after a tick a late sample is waited for before the tick is assembled without it, in s.",
    "inputs": "The streams, at least one.",
    "action": "The action.",
    "instruction": "Where instructions come from: short for a latched input `task` of type std_msgs/msg/String.",
    "goal": "Where images of goals come from: short for a latched input `goal.image`. Left out, no policy sees one.",
    "goal.topic": "ROS topic; the newest image holds until the next, which begins a new episode.",
    "goal.type": "ROS type.",
    "goal.qos": "Quality of service of the subscription.",
    "goal.on_new_goal": "As of a latched input.",
    "goal.camera": (
        "Key of the camera that goals are pictures of: they get its crop and size, and training takes its last frame "
        "of an episode for the goal. A checkpoint that sees `goal.image` fits only robots with the same one."
    ),
    "inputs[].key": (
        "Feature key, `observation.…`, `goal.…` or `task`; cameras are `observation.images.<name>` as in LeRobot, "
        "depth `observation.images.<name>_depth`; other sensors `observation.points.<lidar>`, `.scan.<lidar>`, "
        "`.imu.<imu>`, `.wrench.<name>`, `.radar.<name>`, `.effort`."
    ),
    "inputs[].topic": "ROS topic, full name.",
    "inputs[].type": "ROS type; decides the form below that is needed and the decoder.",
    "inputs[].qos": "Quality of service of the subscription.",
    "inputs[].alignment": "How samples become the value at a tick. Part of the hash.",
    "inputs[].max_age_s": "Older than this at a tick, in s, the value counts as missing.",
    "inputs[].image": "Of an image, and only there.",
    "inputs[].points": "Of a point cloud or scan, and only there.",
    "inputs[].window": "Of an IMU, and only there: a policy sees the samples up to the tick, not the last one.",
    "inputs[].transform": "Of a TFMessage, and only there: where a frame is in another at the tick.",
    "inputs[].transform.parent": "The frame in which the child is: tf2's target frame.",
    "inputs[].transform.child": "The frame that is looked for.",
    "inputs[].transform.static_topic": "Where the transforms that never change are published.",
    "inputs[].joints": (
        "Of a JointState: the joints, in the order in which the policy gets them, or a mapping from the names that the "
        "policy knows to those in the messages. Several drivers may share the topic: a message updates the joints that "
        "it carries, and a joint that none carried within `max_age_s` is missing."
    ),
    "inputs[].field": "Of a JointState: which of its arrays.",
    "inputs[].fields": "Of types with named numbers: which of them, as dotted paths. All of the type's own by default.",
    "inputs[].names": "What those numbers are called in the dataset; of a MultiArray, one name per element.",
    "inputs[].required": "Whether every policy needs it. What a policy takes as input is required in any case.",
    "inputs[].on_missing": (
        "What the robot does while it is missing: `hold` its pose by commands of zero motion, `stop` commanding after "
        "one command of zero motion, or `abort`: the node deactivates."
    ),
    "inputs[].begins_episode": "Of a latched input: whether a new value clears history and policy state.",
    "inputs[].on_new_goal": (
        "Of a latched input that begins an episode: `keep` the running action chunk until the first one decided on the "
        "new value, or `zero` motion at once. Images of goals default to `zero`, everything else to `keep`."
    ),
    "inputs[].camera": "Of a latched image: key of the camera that it is an image of, whose crop and size it gets.",
    "inputs[].default": "Of `task`, the instruction: what holds until the first one is received.",
    "inputs[].frame": "Expected frame_id; another one in a message is an error. Left out, it is not checked.",
    "inputs[].image.height": "Pixels, after crop and resize.",
    "inputs[].image.width": "Pixels, after crop and resize.",
    "inputs[].image.crop": "(top, left, height, width) in pixels of the incoming image; all of it by default.",
    "inputs[].image.depth": (
        "Given, the image is one of distances, 16UC1, 32FC1 or compressedDepth: the policy gets metres, NaN where "
        "nothing was measured. Resizing takes the nearest pixel. The key ends in `_depth`."
    ),
    "inputs[].image.depth.min": "Nearest distance that counts as measured, in m.",
    "inputs[].image.depth.max": "Farthest distance, in m.",
    "inputs[].image.depth.unit": "Metres per unit of an integer image; images of floats are in metres (REP-118).",
    "inputs[].points.count": "Points that the policy gets: more are thinned out evenly, fewer followed by rows of NaN.",
    "inputs[].points.fields": "Fields of a point. Of a LaserScan: x, y, z, range, angle, intensity.",
    "inputs[].window.samples": "Samples in the window, the last one at the tick.",
    "inputs[].window.period_s": "Time between them, in s; each is interpolated.",
    "alignment.method": (
        "`hold` the newest sample that is not after the tick, the `nearest` one, or `interpolate` linearly between the "
        "two around it (numbers only). `latch`: the newest received holds until it is replaced, as goals do."
    ),
    "alignment.timeline": "A sample's time: header stamp, or when it was received. Headerless types need `receive`.",
    "qos.reliability": "A best-effort reader hears every publisher; a reliable one only reliable publishers.",
    "qos.durability": "`transient_local` delivers what was published before the subscription.",
    "qos.depth": "Messages kept.",
    "action.key": "Feature key of the action.",
    "action.representation": (
        "`displacement` over one period of `fps`, `twist` (m/s, rad/s), absolute `pose`, `joint_position` (rad), or "
        "`planar_twist` of a mobile base: linear x, angular z, or linear x, y, angular z."
    ),
    "action.rotation": "How the rotation is written: 0, 3, 4 (x, y, z, w) or 6 numbers after the translation.",
    "action.names": "Names of the numbers: translation x, y, z; the rotation's; the gripper last. Or joint names.",
    "action.units": "Unit of each number, for people and for the dataset. Part of the hash.",
    "action.frame": (
        "frame_id of the motion (REP-105): `base_frame` or `tool_frame`. A workspace is held in the base frame in any "
        "case; motions in the tool frame are turned by the measured orientation. Part of the hash."
    ),
    "action.gripper": "Which number is the gripper; left out when there is none.",
    "action.record": (
        "Where the recorder and the converter read the action: one topic, or a list of topics that each give some of "
        "its numbers, as a twist and the gripper beside it."
    ),
    "action.sinks": "At least one.",
    "action.limits": "Bounds; none where a field is left out. Of several for the same, the tightest holds.",
    "action.measured": "Named here, or derived where only one input can be meant.",
    "action.past_end": (
        "When a chunk is used up: `hold` its last step for `max_hold_s` and then stop, `zero` (command no motion), or "
        "`stop` commanding."
    ),
    "action.max_hold_s": "Of `past_end: hold`, in s.",
    "action.gripper.name": "The last name of the action.",
    "action.gripper.open": "Its value when open.",
    "action.gripper.closed": "Its value when closed.",
    "action.record.topic": "ROS topic, full name.",
    "action.record.type": (
        "ROS type; must be able to carry the representation. One that carries no gripper needs a part beside it for it."
    ),
    "action.record.qos": "Quality of service of the subscription.",
    "action.record.alignment": "How commands become the action of a tick.",
    "action.record.max_age_s": "Older than this at a tick, in s, there was no action.",
    "action.record.names": (
        "Of a JointState, an array or a number: which numbers of the action it gives, all by default where it is the "
        "only topic. Of a JointState a mapping where its messages call the joints otherwise."
    ),
    "action.unsent": "Numbers that no sink carries; every other one must be carried by one.",
    "action.sinks[].topic": "ROS topic, full name; each topic once.",
    "action.sinks[].type": "ROS type; decides the encoder and must be able to carry the representation.",
    "action.sinks[].qos": "Quality of service of the publisher.",
    "action.sinks[].names": (
        "Of an array, a number, a JointState or JointTrajectory: which numbers it carries, all by default; of joints a "
        "mapping where the robot calls them otherwise."
    ),
    "action.sinks[].units": "Of a Twist or TwistStamped: m/s and rad/s, or divided by the scales and clipped to ±1.",
    "action.sinks[].open": "Of a gripper's action: its position, m or rad, where `action.gripper` is open.",
    "action.sinks[].closed": "The same where it is closed. Without both ends the action's number is sent as it is.",
    "action.sinks[].max_effort": "Of a gripper's action: N or Nm, 0 for the server's own.",
    "action.sinks[].linear_scale": "Of a unitless twist: m/s at 1.",
    "action.sinks[].angular_scale": "Of a unitless twist: rad/s at 1.",
    "action.limits.lower": "Lowest value of each number, in the action's units.",
    "action.limits.upper": "Highest value of each number.",
    "action.limits.max_speed": "Of the end effector, in m/s.",
    "action.limits.max_angular_speed": "Of the end effector, or of every joint but a gripper, in rad/s.",
    "action.limits.max_acceleration": "Of the end effector, in m/s², or of every joint but a gripper, in rad/s².",
    "action.limits.max_angular_acceleration": "Of the end effector, in rad/s².",
    "action.limits.max_joint_speed": "Of joint positions: one per number, in rad/s (m/s of a prismatic joint).",
    "action.limits.max_joint_acceleration": "Of joint positions: one per number, in rad/s².",
    "action.limits.joint_limits": (
        "Of joint positions: a `joint_limits.yaml` as MoveIt and ros2_control have it, relative to this file, or its "
        "joints as a mapping. Range, velocity and acceleration count; every joint of the arm must be in it. Copies of "
        "a contract in checkpoints, bags and datasets hold the numbers."
    ),
    "action.limits.urdf": "Of joint positions: a URDF, relative to this file; its joints' ranges and velocities count.",
    "action.limits.max_following_error": (
        "How far the commanded state may be from the measured one before commands are dropped, in m, or rad of a "
        "joint. Of a displacement or twist, none unless it is given."
    ),
    "action.limits.max_angular_following_error": "The same of the orientation of a pose, in rad.",
    "action.limits.workspace": "Box for the end effector's position, in the base frame.",
    "action.limits.workspace.min": "Lowest x, y, z, in m.",
    "action.limits.workspace.max": "Highest x, y, z, in m.",
    "action.limits.workspace.position_key": "Feature with the position now; the same as `action.measured.position`.",
    "action.limits.workspace.position_names": "Its numbers for x, y, z.",
    "action.measured.position": (
        "Of the end effector in the base frame; by default the one PoseStamped or Odometry input that holds a position."
    ),
    "action.measured.orientation": "Of the end effector in the base frame; by default of the same input.",
    "action.measured.joints": (
        "Of joint positions; by default the JointState inputs that hold the positions of the action's joints."
    ),
    "action.measured.position.key": "Feature key, of a vector.",
    "action.measured.position.names": "Its numbers for x, y, z, in m.",
    "action.measured.orientation.key": "Feature key, of a vector.",
    "action.measured.orientation.names": "Its numbers.",
    "action.measured.orientation.rotation": "How they are written; quaternions are x, y, z, w.",
    "action.measured.joints.key": "Feature key, of a vector.",
    "action.measured.joints.names": "Its numbers, one per joint of the action; the gripper's may be left out.",
    "instruction.topic": "ROS topic (std_msgs/msg/String, transient local).",
    "instruction.default": "What holds until the first instruction is received.",
    "instruction.on_new_goal": "As of a latched input.",
}

COMPUTED_DEFAULTS = {
    "control_rate_hz": "`fps`",
    "tool_frame": "none",
    "action.frame": "`base_frame`",
    "action.limits.max_following_error": "what the speed limit covers in 0.5 s",
    "action.limits.max_angular_following_error": "what the speed limit covers in 0.5 s",
    "action.measured.joints.names": "the action's joints",
    "action.limits.workspace.position_key": "derived",
    "action.limits.workspace.position_names": "derived",
    "action.measured.position": "derived",
    "action.measured.orientation": "derived",
    "action.measured.joints": "derived",
    "max_wait_s": "1 / `fps`",
    "inputs[].fields": "by type",
    "inputs[].points.fields": "x, y, z; of a scan x, y",
    "inputs[].names": "`fields`",
    "inputs[].frame": "none",
    "alignment.method": "`hold`; of a transform `interpolate`",
    "qos.reliability": f"{SENSOR_QOS.reliability}; commands and goals {COMMAND_QOS.reliability}",
    "qos.durability": f"{SENSOR_QOS.durability}; goals {LATCHED_QOS.durability}",
    "qos.depth": f"{SENSOR_QOS.depth}; commands and goals {COMMAND_QOS.depth}",
}
"""Defaults that depend on something else."""

ROS_TYPE = "[ROS type](message_types.md)"
KINDS = {
    "inputs[].type": ROS_TYPE,
    "action.record.type": ROS_TYPE,
    "action.sinks[].type": ROS_TYPE,
    "action.gripper.name": "one of `names`",
    "action.record": "mapping, or list of mappings",
    "action.limits.joint_limits": "file name or mapping",
    "action.limits.urdf": "file name",
}
"""Choices that are long or come from elsewhere in the file."""


@dataclass(frozen=True)
class Row:
    """One field as the parser asks for it."""

    kind: str
    default: str


ROWS: dict[str, Row] = {}
_ABSENT: Any = object()


def place_of(path: str, field: str) -> str:
    """Return where a field stands, the same for every list entry and for alignment and qos wherever they stand."""
    names = [name.partition("[")[0] + ("[]" if "[" in name else "") for name in path.split(".") if name]
    names = ["record" if name == "record[]" else name for name in names]  # one topic or a list of them
    if names and names[-1] in ("alignment", "qos"):
        names = names[-1:]
    return ".".join([*names, field])


class RecordingSection(Section):
    """Reads like `Section` and notes every field that is asked for."""

    def _note(self, field: str, kind: str, default: Any) -> None:
        place = place_of(self.path, field)
        if "[" in field:  # an entry of a list that is noted as a whole
            return
        if default is _ABSENT:
            shown = "required"
        elif default in (None, (), {}, ""):
            shown = "none"
        else:
            shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        ROWS.setdefault(place, Row(KINDS.get(place, kind), COMPUTED_DEFAULTS.get(place, shown)))

    def scalar(self, field: str, kind: Any, default: Any = _ABSENT, **bounds: Any) -> Any:
        """Note a scalar and read it."""
        self._note(field, describe(kind, bounds), default)
        return super().scalar(field, kind, **({} if default is _ABSENT else {"default": default}), **bounds)

    def optional(self, field: str, kind: Any, **bounds: Any) -> Any:
        """Note a scalar that may be absent and read it."""
        self._note(field, describe(kind, bounds), None)
        return super().optional(field, kind, **bounds)

    def items(self, field: str, kind: Any, default: Any = _ABSENT, **bounds: Any) -> Any:
        """Note a list and read it."""
        length = f"{bounds['length']} " if bounds.get("length") and field in FIXED_LENGTHS else ""
        self._note(field, f"list of {length}{NAMES[kind]}s", default)
        return super().items(field, kind, **({} if default is _ABSENT else {"default": default}), **bounds)

    def section(self, field: str, default: Any = _ABSENT) -> Any:
        """Note a mapping and read it."""
        required = default is _ABSENT and place_of(self.path, field) not in ("action.gripper", "goal", "instruction")
        self._note(field, "mapping", _ABSENT if required else None)
        return super().section(field, **({} if default is _ABSENT else {"default": default}))

    def sections(self, field: str, default: Any = _ABSENT) -> Any:
        """Note a list of mappings and read it."""
        self._note(field, "list of mappings", default)
        return super().sections(field, **({} if default is _ABSENT else {"default": default}))


NAMES = {str: "string", int: "integer", float: "number", bool: "bool"}
FIXED_LENGTHS = ("crop", "min", "max", "position_names")


def describe(kind: type, bounds: dict[str, Any]) -> str:
    """Return what a scalar may be, in words."""
    choices, minimum = bounds.get("choices"), bounds.get("minimum")
    if choices and kind is str:
        return ", ".join(f"`{choice}`" for choice in choices)
    if minimum is not None:
        return f"{NAMES[kind]} {'>' if bounds.get('exclusive') else '≥'} {minimum:g}"
    return NAMES[kind]


def samples() -> list[dict[str, Any]]:
    """Return contracts that between them have every field once."""
    stream = {"topic": "/a", "max_age_s": 1.0}
    inputs: list[dict[str, Any]] = [
        {**stream, "key": "observation.images.a", "type": "sensor_msgs/msg/Image", "image": {"height": 1, "width": 1}},
        {
            **stream,
            "topic": "/depth",
            "key": "observation.images.a_depth",
            "type": "sensor_msgs/msg/Image",
            "image": {"height": 1, "width": 1, "depth": {"min": 0.1, "max": 4.0}},
        },
        {
            **stream,
            "topic": "/b",
            "key": "observation.points.a",
            "type": "sensor_msgs/msg/PointCloud2",
            "points": {"count": 1},
        },
        {
            **stream,
            "topic": "/c",
            "key": "observation.imu.a",
            "type": "sensor_msgs/msg/Imu",
            "frame": "imu",
            "window": {"samples": 1, "period_s": 1.0},
        },
        {
            **stream,
            "topic": "/tf",
            "key": "observation.tool",
            "type": "tf2_msgs/msg/TFMessage",
            "transform": {"parent": "base", "child": "tool"},
        },
        {
            "key": "task",
            "topic": "/i",
            "type": "std_msgs/msg/String",
            "alignment": {"method": "latch"},
        },
        {
            "key": "goal.other",
            "topic": "/j",
            "type": "sensor_msgs/msg/Image",
            "alignment": {"method": "latch"},
            "camera": "observation.images.a",
        },
        {**stream, "topic": "/d", "key": "observation.state", "type": "sensor_msgs/msg/JointState", "joints": ["a"]},
    ]
    action = {
        "representation": "twist",
        "names": ["x", "y", "z", "g"],
        "units": ["m/s", "m/s", "m/s", "1"],
        "gripper": {"name": "g", "open": 0.0, "closed": 1.0},
        "record": {"topic": "/e", "type": "vla_ros_msgs/msg/EndEffectorAction", "max_age_s": 1.0},
        "sinks": [
            {
                "topic": "/f",
                "type": "geometry_msgs/msg/TwistStamped",
                "units": "unitless",
                "linear_scale": 1.0,
                "angular_scale": 1.0,
            },
            {"topic": "/g", "type": "std_msgs/msg/Float64MultiArray", "names": ["x"]},
            {"topic": "/n", "type": "control_msgs/action/GripperCommand", "names": ["g"], "open": 1.0, "closed": 0.0},
        ],
    }
    goal = {"camera": "observation.images.a"}
    top = {"robot_type": "a", "fps": 1, "tool_frame": "tool", "action": action, "goal": goal}
    parts = [
        {"topic": "/l", "type": "geometry_msgs/msg/Twist", "max_age_s": 1.0, "alignment": {"timeline": "receive"}},
        {"topic": "/m", "type": "sensor_msgs/msg/JointState", "max_age_s": 1.0, "names": ["g"]},
    ]
    top["action"] = {**action, "record": parts}
    short = {
        "action": action,
        "instruction": {"topic": "/k"},
        "inputs": [spec for spec in inputs if spec["key"] != "task"],
    }
    return [{**top, "inputs": inputs}, {**top, **short}]


def read_samples() -> dict[str, Row]:
    """Parse the samples and return every field that the parser asked for."""
    ROWS.clear()
    with mock.patch.object(parser, "Section", RecordingSection):
        for sample in samples():
            parse_contract(yaml.safe_load(yaml.safe_dump(sample)), "sample")
    return dict(ROWS)


def render() -> str:
    """Return the page.

    Raises:
        SystemExit: A field has no meaning here, or a meaning belongs to no field.
    """
    rows = read_samples()
    if undocumented := sorted(rows.keys() ^ MEANINGS.keys()):
        raise SystemExit(f"{Path(__file__).name}: field and meaning do not match: {', '.join(undocumented)}")
    parts = [INTRODUCTION]
    for section, heading in SECTIONS.items():
        fields = [place for place in MEANINGS if place.rpartition(".")[0] == section]
        lines = [f"## {heading}", "", "| field | type | default | meaning |", "|---|---|---|---|"]
        for place in fields:
            row = rows[place]
            lines.append(f"| `{place.rpartition('.')[2]}` | {row.kind} | {row.default} | {MEANINGS[place]} |")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
