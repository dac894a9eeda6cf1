"""Joint limits from joint_limits.yaml, URDF and lists: the tightest of all, none forgotten; copies need no file."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.contract import JointLimit, LimitsSpec, RobotContract, contract_text, load_contract, parse_contract
from vla_ros.data_types import ContractError

MOVEIT = """\
default_velocity_scaling_factor: 0.1
joint_limits:
  shoulder: {has_velocity_limits: true, max_velocity: 2.0, has_acceleration_limits: true, max_acceleration: 4.0}
  elbow:
    has_velocity_limits: true
    max_velocity: 1.5
    has_acceleration_limits: false
    max_acceleration: 0.0
    has_position_limits: true
    min_position: -2.0
    max_position: 2.0
    has_jerk_limits: false
  finger: {max_velocity: 0.1}
  of_another_arm: {max_velocity: -3.0}
"""
URDF = """\
<?xml version="1.0"?>
<robot name="arm">
  <link name="base"/>
  <joint name="shoulder" type="continuous"><limit effort="10" velocity="3.0"/></joint>
  <joint name="elbow" type="revolute">
    <limit lower="-1.0" upper="2.5" velocity="1.0" effort="10"/>
    <safety_controller soft_lower_limit="-0.9" soft_upper_limit="2.4" k_position="1" k_velocity="1"/>
  </joint>
  <joint name="weld" type="fixed"/>
</robot>
"""
CONTRACT = """\
# an arm of two joints
robot_type: arm
fps: 10
inputs:
  - {key: observation.state, topic: /j, type: sensor_msgs/msg/JointState, joints: [shoulder, elbow], max_age_s: 0.2}
action:
  representation: joint_position
  names: [shoulder, elbow, finger]
  units: [rad, rad, "1"]
  gripper: {name: finger, open: 0.0, closed: 1.0}
  record: {topic: /r, type: sensor_msgs/msg/JointState, max_age_s: 0.1}
  sinks: [{topic: /s, type: trajectory_msgs/msg/JointTrajectory}]
  limits:  # what the datasheet says
    LIMITS
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "joint_limits.yaml").write_text(MOVEIT, encoding="utf-8")
    (tmp_path / "arm.urdf").write_text(URDF, encoding="utf-8")
    return tmp_path


def load(folder: Path, *limits: str) -> RobotContract:
    path = folder / "robot.yaml"
    path.write_text(CONTRACT.replace("LIMITS", "\n    ".join(limits)), encoding="utf-8")
    return load_contract(path)


FILE, URDF_FILE = "joint_limits: limits/joint_limits.yaml", "urdf: arm.urdf   # expanded from xacro"


def test_a_joint_limits_file_is_read_beside_the_contract(folder: Path) -> None:
    assert load(folder, FILE).action.limits.joint_limits == (
        JointLimit("shoulder", None, None, 2.0, 4.0),
        JointLimit("elbow", -2.0, 2.0, 1.5, None),
        JointLimit("finger", None, None, 0.1, None),
    )


def test_a_urdf_gives_ranges_and_velocities_and_a_continuous_joint_has_no_range(folder: Path) -> None:
    assert load(folder, URDF_FILE).action.limits.joint_limits == (
        JointLimit("shoulder", None, None, 3.0),
        JointLimit("elbow", -0.9, 2.4, 1.0),
    )


def test_of_both_files_the_tighter_number_holds(folder: Path) -> None:
    assert load(folder, FILE, URDF_FILE).action.limits.joint_limits[:2] == (
        JointLimit("shoulder", None, None, 2.0, 4.0),
        JointLimit("elbow", -0.9, 2.0, 1.0, None),
    )


def test_parameters_of_a_controller_manager_are_a_joint_limits_file_too(folder: Path) -> None:
    nested = {"controller_manager": {"ros__parameters": yaml.safe_load(MOVEIT)}}
    (folder / "nested.yaml").write_text(yaml.safe_dump(nested), encoding="utf-8")
    assert load(folder, "joint_limits: nested.yaml").action.limits == load(folder, FILE).action.limits


def test_an_angle_that_wraps_round_has_no_range(folder: Path) -> None:
    shoulder = "{angle_wraparound: true, min_position: -3.0, max_position: 3.0}"
    limits = f"joint_limits: {{shoulder: {shoulder}, elbow: {{max_velocity: 1.0, min_velocity: -0.5}}}}"
    assert load(folder, limits).action.limits.joint_limits == (
        JointLimit("shoulder"),
        JointLimit("elbow", max_velocity=0.5),
    )


def test_limits_are_no_part_of_the_hash(folder: Path) -> None:
    hashes = {
        load(folder, limit).hash
        for limit in (FILE, URDF_FILE, "max_acceleration: 2.0", "max_joint_speed: [1.0, 1.0, 1.0]")
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "limits", [[FILE], [URDF_FILE], [FILE, URDF_FILE], [URDF_FILE, "max_angular_speed: 1.0", FILE]], ids=str
)
def test_a_copy_elsewhere_holds_the_same_limits_and_the_comments(
    folder: Path, tmp_path_factory: Any, limits: list[str]
) -> None:
    contract = load(folder, *limits)
    copy = tmp_path_factory.mktemp("copy") / "contract.yaml"
    copy.write_text(contract_text(contract), encoding="utf-8")
    assert load_contract(copy) == contract
    assert "# an arm of two joints" in copy.read_text(encoding="utf-8")
    assert "# what the datasheet says" in copy.read_text(encoding="utf-8")


def test_a_contract_without_files_is_copied_byte_for_byte(folder: Path) -> None:
    contract = load(folder, "max_angular_speed: 1.0  # slow")
    assert contract_text(contract) == (folder / "robot.yaml").read_text(encoding="utf-8")


def test_a_contract_in_flow_style_or_with_anchors_is_copied_too(folder: Path) -> None:
    flow = CONTRACT.replace(
        "limits:  # what the datasheet says\n    LIMITS",
        "limits: {joint_limits: limits/joint_limits.yaml, urdf: 'arm.urdf'}",
    )
    anchored = CONTRACT.replace("LIMITS", "<<: {joint_limits: limits/joint_limits.yaml}\n    max_angular_speed: 1.0")
    for text in (flow, anchored):
        (folder / "robot.yaml").write_text(text, encoding="utf-8")
        contract = load_contract(folder / "robot.yaml")
        assert parse_contract(yaml.safe_load(contract_text(contract)), "copy") == contract


def test_a_copy_holds_the_numbers_in_force_even_if_the_file_has_changed(folder: Path) -> None:
    contract = load(folder, FILE)
    path = folder / "limits" / "joint_limits.yaml"
    path.write_text(MOVEIT.replace("max_velocity: 2.0", "max_velocity: 9.0"), encoding="utf-8")
    copied = parse_contract(yaml.safe_load(contract_text(contract)), "copy")
    assert copied.action.limits == contract.action.limits


MISTAKES = {
    "file that is not there": (
        ["joint_limits: limits/joint_limit.yaml"],
        r"joint_limit\.yaml: no such file\. Did you mean 'joint_limits\.yaml'",
    ),
    "urdf that is not there": (
        ["urdf: arn.urdf"],
        r"arn\.urdf: cannot be read: No such file or directory\. Did you mean 'arm\.urdf'",
    ),
    "joint missing": (
        ["joint_limits: {shoulder: {max_velocity: 1.0}, elbw: {max_velocity: 1.0}}"],
        r"joint_limits\.elbow is required and missing; joints here are shoulder, elbw\. ?Did you mean 'elbw'",
    ),
    "limit announced and missing": (
        ["joint_limits: {shoulder: {has_velocity_limits: true}, elbow: {}}"],
        r"joint_limits\.shoulder\.max_velocity is required and missing: has_velocity_limits is true",
    ),
    "limit misspelt": (
        ["joint_limits: {shoulder: {max_velocty: 1.0}, elbow: {}}"],
        r"joint_limits\.shoulder\.max_velocty is not a field here.*Did you mean 'max_velocity'",
    ),
    "speed of nothing": (
        ["joint_limits: {shoulder: {max_velocity: 0.0}, elbow: {}}"],
        r"joint_limits\.shoulder\.max_velocity must be above 0, got 0\.0",
    ),
    "range inside out": (
        ["joint_limits: {shoulder: {}, elbow: {min_position: 1.0, max_position: -1.0}}"],
        r"action\.limits\.joint_limits leave joint 'elbow' no range: 1 to -1",
    ),
    "one speed too few": (
        ["max_joint_speed: [1.0, 1.0]"],
        r"action\.limits\.max_joint_speed expected 3 entries, got 2",
    ),
    "a speed of nothing": (
        ["max_joint_speed: [1.0, 0.0, 1.0]"],
        r"action\.limits\.max_joint_speed\[1\] must be above 0, got 0\.0",
    ),
    "speed of an end effector": (
        ["max_speed: 1.0"],
        r"action\.limits\.max_speed bounds the end effector, which joint positions do not tell",
    ),
    "speed of no motion": (
        ["max_angular_acceleration: 1.0"],
        r"action\.limits\.max_angular_acceleration bounds the end effector",
    ),
}


@pytest.mark.parametrize(("limits", "complaint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_joint_limits_is_one_sentence(folder: Path, limits: list[str], complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint) as caught:
        load(folder, *limits)
    assert "\n" not in str(caught.value)


URDF_MISTAKES = {
    "no xml": ("robot", r"not readable as XML: "),
    "another root": ("<sdf/>", r"is no URDF: its root is <sdf>, expected <robot>"),
    "xacro": (
        URDF.replace("<link", "<xacro:include filename='a'/><link").replace(
            "<robot ", "<robot xmlns:xacro='http://www.ros.org/wiki/xacro' "
        ),
        r"is a xacro file; expand it",
    ),
    "entities": ("<!DOCTYPE robot [<!ENTITY a 'a'>]>" + URDF.split("\n", 1)[1], r"declares XML entities"),
    "joint missing": (
        URDF.replace('"elbow"', '"ellbow"'),
        r"has no joint 'elbow'; joints are shoulder, ellbow, weld\. ?Did you mean 'ellbow'",
    ),
    "joint fixed": (
        URDF.replace('name="elbow" type="revolute"', 'name="elbow" type="fixed"'),
        r"joint 'elbow' is of type 'fixed' and cannot be commanded",
    ),
    "no limit": (
        "<robot><joint name='shoulder' type='continuous'/><joint name='elbow' type='revolute'/></robot>",
        r"joint 'elbow' is revolute and has no <limit>",
    ),
    "limit that is no number": (
        URDF.replace('upper="2.5"', 'upper="${pi}"'),
        r"joint 'elbow' has upper=\"\$\{pi\}\", expected a finite number",
    ),
    "no speed": (
        URDF.replace('velocity="1.0"', 'velocity="0"'),
        r"joint 'elbow' has a velocity limit of 0 and could never move",
    ),
}


@pytest.mark.parametrize(("text", "complaint"), URDF_MISTAKES.values(), ids=URDF_MISTAKES)
def test_a_mistake_in_a_urdf_is_one_sentence(folder: Path, text: str, complaint: str) -> None:
    (folder / "arm.urdf").write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=complaint) as caught:
        load(folder, URDF_FILE)
    assert str(caught.value).startswith(str(folder / "arm.urdf"))
    assert "\n" not in str(caught.value)


def test_limits_of_joints_mean_nothing_for_a_pose(folder: Path) -> None:
    content = yaml.safe_load(CONTRACT.replace("LIMITS", FILE))
    content["action"] |= {"representation": "twist", "names": ["x", "y", "z", "finger"], "units": ["1"] * 4}
    content["action"]["record"]["type"] = "vla_ros_msgs/msg/EndEffectorAction"
    content["action"]["sinks"][0]["type"] = "vla_ros_msgs/msg/EndEffectorAction"
    with pytest.raises(ContractError, match=r"action\.limits\.joint_limits bounds joints, and the action is a twist"):
        parse_contract(content, str(folder / "robot.yaml"))


def test_numbers_of_a_quaternion_are_not_bounded_one_by_one(folder: Path) -> None:
    content = yaml.safe_load(CONTRACT.replace("LIMITS", "max_speed: 1.0"))
    content["inputs"] = [
        {"key": "observation.tool", "topic": "/t", "type": "geometry_msgs/msg/PoseStamped", "max_age_s": 1.0}
    ]
    content["action"] |= {
        "representation": "pose",
        "rotation": "quaternion",
        "names": list("xyzabcdg"),
        "units": ["1"] * 8,
    }
    content["action"]["gripper"]["name"] = "g"
    content["action"]["record"]["type"] = "vla_ros_msgs/msg/EndEffectorAction"
    content["action"]["sinks"][0]["type"] = "vla_ros_msgs/msg/EndEffectorAction"
    content["action"]["limits"] |= {"lower": [-1.0] * 8, "upper": [1.0] * 8}
    assert parse_contract(content, "robot.yaml").action.limits == LimitsSpec(
        lower=(-1.0,) * 8, upper=(1.0,) * 8, max_speed=1.0
    )
    content["action"]["limits"]["upper"][4] = 0.5
    with pytest.raises(
        ContractError, match=r"action\.limits\.upper\[4\] bounds 'b' to -1 to 0\.5; the numbers of a quaternion"
    ):
        parse_contract(content, "robot.yaml")
