"""Every way in which a contract can be wrong is one sentence that names the file, the place, the value and the fix."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.contract import load_contract
from vla_ros.data_types import ContractError

IMAGE = {
    "key": "observation.images.front",
    "topic": "/camera/image_raw",
    "type": "sensor_msgs/msg/Image",
    "image": {"height": 48, "width": 64},
    "max_age_s": 0.2,
}
POSE = {
    "key": "observation.state",
    "topic": "/arm/pose",
    "type": "geometry_msgs/msg/PoseStamped",
    "fields": ["pose.position.x", "pose.position.y", "pose.position.z"],
    "names": ["x", "y", "z"],
    "max_age_s": 0.2,
}
JOINTS = {
    "key": "observation.joints",
    "topic": "/joint_states",
    "type": "sensor_msgs/msg/JointState",
    "joints": ["shoulder", "elbow"],
    "max_age_s": 0.2,
}
IMU = {
    "key": "observation.imu.wrist",
    "topic": "/imu",
    "type": "sensor_msgs/msg/Imu",
    "window": {"samples": 4, "period_s": 0.01},
    "max_age_s": 0.2,
}
SCAN = {
    "key": "observation.scan.front",
    "topic": "/scan",
    "type": "sensor_msgs/msg/LaserScan",
    "points": {"count": 90},
    "max_age_s": 0.2,
}
ARRAY = {
    "key": "observation.force",
    "topic": "/force",
    "type": "std_msgs/msg/Float64MultiArray",
    "names": ["force"],
    "alignment": {"timeline": "receive"},
    "max_age_s": 0.2,
}
GOOD: dict[str, Any] = {
    "robot_type": "test_robot",
    "fps": 10,
    "control_rate_hz": 30,
    "inputs": [IMAGE, POSE, JOINTS, IMU, SCAN, ARRAY],
    "action": {
        "representation": "displacement",
        "names": ["dx", "dy", "dz", "gripper"],
        "units": ["m", "m", "m", "1"],
        "gripper": {"name": "gripper", "open": -1.0, "closed": 1.0},
        "record": {"topic": "/teleop/action", "type": "vla_ros_msgs/msg/EndEffectorAction", "max_age_s": 0.1},
        "sinks": [
            {"topic": "/end_effector/action", "type": "vla_ros_msgs/msg/EndEffectorAction"},
            {"topic": "/servo/twist", "type": "geometry_msgs/msg/TwistStamped"},
            {"topic": "/numbers", "type": "std_msgs/msg/Float64MultiArray", "names": ["dx"]},
        ],
        "limits": {
            "lower": [-0.1, -0.1, -0.1, -1.0],
            "upper": [0.1, 0.1, 0.1, 1.0],
            "max_speed": 0.5,
            "workspace": {
                "min": [-1.0, -1.0, 0.0],
                "max": [1.0, 1.0, 1.0],
                "position_key": "observation.state",
                "position_names": ["x", "y", "z"],
            },
        },
    },
    "instruction": {"topic": "/instruction", "default": "push"},
}
DELETE = object()


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """Return the good contract with values set (or deleted) at dotted places such as ``inputs[0].image.width``."""
    content = copy.deepcopy(GOOD)
    for place, value in changes:
        steps = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", place)]
        holder: Any = content
        for step in steps[:-1]:
            holder = holder[step]
        if value is DELETE:
            del holder[steps[-1]]
        else:
            holder[steps[-1]] = value
    return content


def load(tmp_path: Path, content: Any) -> Any:
    path = tmp_path / "robot.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_contract(path)


JOINT_ACTION = [
    ("action.representation", "joint_position"),
    ("action.names", ["shoulder", "elbow"]),
    ("action.units", ["rad", "rad"]),
    ("action.gripper", DELETE),
    ("action.record", {"topic": "/goal", "type": "sensor_msgs/msg/JointState", "max_age_s": 0.1}),
    ("action.sinks", [{"topic": "/arm", "type": "trajectory_msgs/msg/JointTrajectory"}]),
    ("action.limits", {}),
]
NO_GRIPPER = [
    ("action.gripper", DELETE),
    ("action.names", ["dx", "dy", "dz"]),
    ("action.units", ["m", "m", "m"]),
    ("action.limits", {}),
]

# (what is changed in the good contract, what the error says after the file's name)
MISTAKES: dict[str, tuple[list[tuple[str, Any]], str]] = {
    "missing field": ([("robot_type", DELETE)], "robot_type is required and missing"),
    "empty name": ([("robot_type", " ")], "robot_type must not be empty"),
    "misspelt field": (
        [("control_rate_hertz", 20)],
        (
            "control_rate_hertz is not a field here; fields are action, base_frame, control_rate_hz, fps, goal, "
            "inputs, instruction, max_wait_s, robot_type, tool_frame. Did you mean 'control_rate_hz'?"
        ),
    ),
    "wrong type of value": ([("fps", "ten")], "fps expected int, got 'ten'"),
    "bool where a number belongs": ([("fps", True)], "fps expected int, got True"),
    "number below its minimum": ([("fps", 0)], "fps must be at least 1, got 0"),
    "number not above its bound": ([("inputs[0].max_age_s", 0)], "inputs[0].max_age_s must be above 0, got 0.0"),
    "not a number": ([("inputs[0].max_age_s", float("nan"))], "inputs[0].max_age_s expected a finite number, got nan"),
    "endless": ([("max_wait_s", float("inf"))], "max_wait_s expected a finite number, got inf"),
    "control rate off the grid": (
        [("control_rate_hz", 25)],
        "control_rate_hz 25 is not a multiple of fps 10: steps would change between commands",
    ),
    "section is not a mapping": ([("action", [1])], "action expected a mapping of fields, got [1]"),
    "inputs is not a list": ([("inputs", {})], "inputs expected a list of mappings, got {}"),
    "input is not a mapping": ([("inputs[1]", 3)], "inputs[1] expected a mapping of fields, got 3"),
    "no inputs": ([("inputs", []), ("action.limits", {})], "inputs must name at least one stream"),
    "unknown type": (
        [("inputs[0].type", "sensor_msgs/msg/Imag")],
        "inputs[0].type 'sensor_msgs/msg/Imag' is not one of geometry_msgs/msg/Twist, ",
    ),
    "key outside the vocabulary": (
        [("inputs[0].key", "front_camera")],
        "inputs[0].key 'front_camera' must be 'observation.' or 'goal.' and a name",
    ),
    "key with a slash": ([("inputs[0].key", "observation.a/b")], "inputs[0].key 'observation.a/b' must be"),
    "key without a name": ([("inputs[0].key", "observation.")], "inputs[0].key 'observation.' must be"),
    "relative topic": (
        [("inputs[0].topic", "camera/image")],
        "inputs[0].topic 'camera/image' is not a full topic name like /arm/joint_states",
    ),
    "topic with a space": ([("action.record.topic", "/my topic")], "action.record.topic '/my topic' is not a full"),
    "image without its form": ([("inputs[0].image", DELETE)], "inputs[0].image is required and missing"),
    "form of another type": ([("inputs[2].image", {"height": 1})], "inputs[2].image is not a field here"),
    "image without height": ([("inputs[0].image", {"width": 4})], "inputs[0].image.height is required and missing"),
    "image of no width": ([("inputs[0].image.width", 0)], "inputs[0].image.width must be at least 1, got 0"),
    "crop of three numbers": (
        [("inputs[0].image.crop", [0, 0, 9])],
        "inputs[0].image.crop expected 4 entries, got 3: [0, 0, 9]",
    ),
    "crop outside": (
        [("inputs[0].image.crop", [-1, 0, 9, 9])],
        "inputs[0].image.crop is (top, left, height, width) in pixels of the incoming image, got [-1, 0, 9, 9]",
    ),
    "crop of a fraction": ([("inputs[0].image.crop", [0, 0, 0.5, 1])], "inputs[0].image.crop[2] expected int, got 0.5"),
    "points of no field": (
        [("inputs[4].points.fields", [])],
        "inputs[4].points.fields must name one field or more, each once, got []",
    ),
    "unknown field of a scan": (
        [("inputs[4].points.fields", ["x", "intensty"])],
        "inputs[4].points.fields[1] 'intensty' is not one of x, y, z, range, angle, intensity. Did you mean",
    ),
    "window without a period": (
        [("inputs[3].window.period_s", DELETE)],
        "inputs[3].window.period_s is required and missing",
    ),
    "unknown message field": (
        [("inputs[1].fields[2]", "pose.position.w")],
        "inputs[1].fields[2] 'pose.position.w' is not one of pose.position.x, pose.position.y, pose.position.z, ",
    ),
    "fewer names than fields": ([("inputs[1].names", ["x", "y"])], "inputs[1].names expected 3 entries, got 2"),
    "repeated name": ([("inputs[1].names", ["x", "y", "x"])], "inputs[1].names repeats a name: x, y, x"),
    "no joints": ([("inputs[2].joints", [])], "inputs[2].joints must not be empty"),
    "no fields": ([("inputs[1].fields", []), ("inputs[1].names", [])], "inputs[1].fields must not be empty"),
    "joint that YAML reads as a bool": (
        [("inputs[2].joints[0]", True)],
        "inputs[2].joints[0] expected str, got True; write it in quotes",
    ),
    "unknown joint field": (
        [("inputs[2].field", "positon")],
        "inputs[2].field 'positon' is not one of position, velocity, effort. Did you mean 'position'?",
    ),
    "unknown reliability": (
        [("inputs[0].qos", {"reliability": "besteffort"})],
        "inputs[0].qos.reliability 'besteffort' is not one of reliable, best_effort. Did you mean 'best_effort'?",
    ),
    "queue of no depth": ([("inputs[0].qos", {"depth": 0})], "inputs[0].qos.depth must be at least 1, got 0"),
    "unknown alignment": (
        [("inputs[1].alignment", {"method": "linear"})],
        "inputs[1].alignment.method 'linear' is not one of hold, nearest, interpolate",
    ),
    "images between images": (
        [("inputs[0].alignment", {"method": "interpolate"})],
        "inputs[0].alignment.method 'interpolate' needs numbers; images and points take 'hold' or 'nearest'",
    ),
    "stamp of a headerless message": (
        [("inputs[5].alignment", DELETE)],
        "inputs[5].alignment.timeline must be 'receive' for this type, which carries no header",
    ),
    "frame of a headerless message": (
        [("inputs[5].frame", "base_link")],
        "inputs[5].frame std_msgs/msg/Float64MultiArray carries no header and so no frame; leave it out",
    ),
    "unknown reaction": (
        [("inputs[0].on_missing", "halt")],
        "inputs[0].on_missing 'halt' is not one of hold, stop, abort",
    ),
    "required in words": ([("inputs[0].required", "yes")], "inputs[0].required expected bool, got 'yes'"),
    "two cameras of one key": (
        [("inputs[3]", {**IMAGE, "topic": "/other"})],
        "inputs[3].key 'observation.images.front' is used twice; only vectors are joined",
    ),
    "the same numbers twice": (
        [("inputs[2].key", "observation.state"), ("inputs[2].joints", ["x", "elbow"])],
        "inputs[2].key 'observation.state' already has numbers named x; give this stream another key or names",
    ),
    "one topic of two types": (
        [("inputs[2].topic", "/arm/pose")],
        "inputs[2].topic '/arm/pose' carries sensor_msgs/msg/JointState here and geometry_msgs/msg/PoseStamped",
    ),
    "two sinks on one topic": (
        [("action.sinks[1]", {"topic": "/end_effector/action", "type": "vla_ros_msgs/msg/EndEffectorAction"})],
        "action.sinks[1].topic '/end_effector/action' is already a sink; one topic takes one command stream",
    ),
    "unknown representation": (
        [("action.representation", "displacment")],
        (
            "action.representation 'displacment' is not one of displacement, twist, pose, joint_position, "
            "planar_twist, trajectory. "
            "Did you mean 'displacement'?"
        ),
    ),
    "names that do not spell the representation": (
        [("action.rotation", "quaternion")],
        "action.names a displacement with rotation 'quaternion' and a gripper has 8 numbers, got 4: dx, dy, dz",
    ),
    "repeated action name": (
        [("action.names", ["dx", "dx", "dz", "gripper"])],
        "action.names must hold one name or more, each once, got ['dx', 'dx', 'dz', 'gripper']",
    ),
    "another key": ([("action.key", "actions")], "action.key 'actions' is not one of action. Did you mean 'action'?"),
    "unit missing": ([("action.units", ["m"])], "action.units expected 4 entries, got 1: ['m']"),
    "unit without quotes": ([("action.units[3]", 1)], "action.units[3] expected str, got 1; write it in quotes"),
    "gripper of another name": (
        [("action.gripper.name", "griper")],
        "action.gripper.name 'griper' is not one of dx, dy, dz, gripper. Did you mean 'gripper'?",
    ),
    "gripper not last": (
        [("action.gripper.name", "dz")],
        "action.gripper.name must be the last number of the action, 'gripper', got 'dz'",
    ),
    "gripper that cannot move": (
        [("action.gripper.closed", -1.0)],
        "action.gripper.closed must differ from open, both are -1",
    ),
    "twist by quaternion": (
        [("action.representation", "twist"), ("action.rotation", "quaternion")],
        "action.rotation of a twist is an angular velocity, 'rotation_vector' or 'none', got 'quaternion'",
    ),
    "rotation of joints": (
        [*JOINT_ACTION, ("action.rotation", "rot6d")],
        "action.rotation must be 'none' for joint positions, got 'rot6d'",
    ),
    "workspace of joints": (
        [*JOINT_ACTION, ("action.limits", {"max_speed": 1.0})],
        "action.limits.max_speed bounds the end effector, which joint positions do not tell; use lower and upper",
    ),
    "record that cannot carry the action": (
        [("action.record.type", "geometry_msgs/msg/PoseStamped")],
        (
            "action.record.type geometry_msgs/msg/PoseStamped cannot carry a displacement action; these can: "
            "std_msgs/msg/Float64MultiArray, vla_ros_msgs/msg/EndEffectorAction"
        ),
    ),
    "record without the gripper": (
        [
            ("action.representation", "twist"),
            ("action.record", {"topic": "/t", "type": "geometry_msgs/msg/TwistStamped", "max_age_s": 0.1}),
        ],
        "action.record.type geometry_msgs/msg/TwistStamped carries no gripper, and the action has one, 'gripper'",
    ),
    "record without a stamp": (
        [("action.record.type", "std_msgs/msg/Float64MultiArray")],
        "action.record.alignment.timeline must be 'receive' for this type, which carries no header",
    ),
    "no sinks": ([("action.sinks", [])], "action.sinks must name at least one topic to publish the action on"),
    "sink that cannot carry the action": (
        [("action.sinks[1].type", "geometry_msgs/msg/PoseStamped")],
        "action.sinks[1].type geometry_msgs/msg/PoseStamped cannot carry a displacement action; these can: ",
    ),
    "orientation that nobody gave": (
        [
            *NO_GRIPPER,
            ("action.representation", "pose"),
            ("action.sinks", [{"topic": "/p", "type": "geometry_msgs/msg/PoseStamped"}]),
        ],
        "action.sinks[0].type geometry_msgs/msg/PoseStamped carries an orientation, and the action's rotation",
    ),
    "sink of an unknown name": (
        [("action.sinks[2].names", ["dx", "dw"])],
        "action.sinks[2].names[1] 'dw' is not one of dx, dy, dz, gripper",
    ),
    "names where all are sent": ([("action.sinks[1].names", ["dx"])], "action.sinks[1].names is not a field here"),
    "unknown units of a twist": (
        [("action.sinks[1].units", "unitles")],
        "action.sinks[1].units 'unitles' is not one of si, unitless. Did you mean 'unitless'?",
    ),
    "unitless twist without its scale": (
        [("action.sinks[1].units", "unitless"), ("action.sinks[1].linear_scale", 0.4)],
        "action.sinks[1].angular_scale is required and missing",
    ),
    "scale of an SI twist": (
        [("action.sinks[1].linear_scale", 0.4)],
        "action.sinks[1].linear_scale has a meaning only for a Twist or TwistStamped with 'units: unitless'",
    ),
    "limits of another size": (
        [("action.limits.lower", [0.0])],
        "action.limits.lower expected 4 entries, got 1: [0.0]",
    ),
    "limits upside down": (
        [("action.limits.upper", [-0.2, 0.1, 0.1, 1.0])],
        "action.limits.upper must be above its lower bound in every number, got [-0.1, ",
    ),
    "lower limits alone": ([("action.limits.upper", DELETE)], "action.limits.upper must be above its lower bound"),
    "box inside out": (
        [("action.limits.workspace.max", [1.0, 1.0, -1.0])],
        "action.limits.workspace.max must be above its lower bound in every number, got ",
    ),
    "speed of nothing": ([("action.limits.max_speed", 0.0)], "action.limits.max_speed must be above 0, got 0.0"),
    "box without a position": (
        [
            ("action.limits.workspace.position_key", DELETE),
            ("action.limits.workspace.position_names", DELETE),
            ("inputs[1].fields", ["pose.orientation.x", "pose.orientation.y", "pose.orientation.z"]),
        ],
        (
            "action.limits.workspace need the measured position of the end effector in 'base_link', and no PoseStamped "
            "or Odometry input holds it; add one, or name the numbers in action.measured.position or beside the box"
        ),
    ),
    "half a position": (
        [("action.limits.workspace.position_names", DELETE)],
        "action.limits.workspace needs position_key and position_names together",
    ),
    "position of an unknown key": (
        [("action.limits.workspace.position_key", "observation.stat")],
        (
            "action.limits.workspace.position_key 'observation.stat' is not a vector input; those are "
            "observation.state, observation.joints, observation.force. Did you mean 'observation.state'?"
        ),
    ),
    "position of an unknown name": (
        [("action.limits.workspace.position_names", ["x", "y", "height"])],
        "action.limits.workspace.position_names[2] 'height' is not a number of observation.state: x, y, z.",
    ),
    "past the end": (
        [("action.past_end", "freeze")],
        "action.past_end 'freeze' is not one of hold, zero, stop",
    ),
    "goal of no camera": (
        [("goal", {"camera": "observation.images.frnt"})],
        "goal.camera 'observation.images.frnt' is not an image input; those are observation.images.front. Did you mean",
    ),
    "goal of another type": (
        [("goal", {"camera": "observation.images.front", "type": "sensor_msgs/msg/Imu"})],
        "goal.type 'sensor_msgs/msg/Imu' is not one of sensor_msgs/msg/Image, sensor_msgs/msg/CompressedImage",
    ),
    "goal without a camera": ([("goal", {"topic": "/goal"})], "goal.camera is required and missing"),
    "goal on another's topic": (
        [("goal", {"camera": "observation.images.front", "topic": "/instruction"})],
        "instruction.topic '/instruction' carries std_msgs/msg/String here and sensor_msgs/msg/Image at goal",
    ),
    "instruction topic": (
        [("instruction.topic", "instruction")],
        "instruction.topic 'instruction' is not a full topic",
    ),
}


@pytest.mark.parametrize(("changes", "complaint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_that_names_file_place_and_value(
    tmp_path: Path, changes: list[tuple[str, Any]], complaint: str
) -> None:
    with pytest.raises(ContractError) as caught:
        load(tmp_path, changed(*changes))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'robot.yaml'}: {complaint}"), message
    assert "\n" not in message


def test_the_contract_that_the_mistakes_start_from_is_good(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).robot_type == "test_robot"


def test_a_joint_robot_is_good(tmp_path: Path) -> None:
    assert load(tmp_path, changed(*JOINT_ACTION)).action.representation == "joint_position"


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "metaworld_sawyer.yaml").write_text("{}", encoding="utf-8")
    path = tmp_path / "metaworld_sawer.yaml"
    with pytest.raises(ContractError, match=rf"^{path}: no such file\. Did you mean 'metaworld_sawyer\.yaml'\?$"):
        load_contract(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "expected a mapping of fields, got None"),
        ("robot", "expected a mapping of fields, got 'robot'"),
        ("a: [1", "not readable as YAML: "),
        ("a: 2024-13-45", "not readable as YAML: month must be in 1..12"),
        ("a: &a [*a]", "not readable as YAML: "),
        ("fps: 10\nfps: 20\n", "line 2: 'fps' is given twice; keep one of them."),
        ("action:\n  sinks:\n  - {topic: /a, topic: /b}\n", "line 3: 'topic' is given twice; keep one of them."),
    ],
)
def test_a_file_that_is_no_contract_says_why(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(ContractError) as caught:
        load(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'robot.yaml'}: {complaint}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "robot.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ContractError, match="not readable as YAML"):
        load_contract(tmp_path / "robot.yaml")


def test_yaml_reads_a_number_without_a_point_as_text_and_the_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"max_wait_s expected float, got '5e-2'; write the number with a point"):
        load(tmp_path, yaml.safe_dump(GOOD) + "max_wait_s: 5e-2\n")
