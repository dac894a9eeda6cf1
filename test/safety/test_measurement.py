"""Where the state is measured: named, derived, or an error that says what to name; and the measurement put together."""

import copy
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract, measured_sources, parse_contract
from vla_ros.data_types import ContractError
from vla_ros.safety import measurement_from

POSITION = [f"pose.position.{axis}" for axis in "xyz"]
ORIENTATION = [f"pose.orientation.{axis}" for axis in "xyzw"]
TOOL = {
    "key": "observation.tool",
    "topic": "/tool",
    "type": "geometry_msgs/msg/PoseStamped",
    "fields": [*ORIENTATION, *POSITION],
    "max_age_s": 0.2,
}
ARM = {
    "key": "observation.arm",
    "topic": "/joint_states",
    "type": "sensor_msgs/msg/JointState",
    "joints": ["elbow", "shoulder"],
    "max_age_s": 0.2,
}
HAND = {**ARM, "key": "observation.hand", "topic": "/hand/joint_states", "joints": ["finger", "wrist"]}
POSE = {"representation": "pose", "rotation": "quaternion", "names": list("abcdefg"), "limits": {"max_speed": 1.0}}
DISPLACEMENT = {
    "representation": "displacement",
    "names": ["dx", "dy", "dz"],
    "limits": {"workspace": {"min": [-1.0] * 3, "max": [1.0] * 3}},
}
JOINTS = {
    "representation": "joint_position",
    "names": ["shoulder", "elbow", "wrist", "finger"],
    "gripper": {"name": "finger", "open": 0.0, "closed": 1.0},
    "limits": {"max_angular_speed": 1.0},
}


def contract(action: dict[str, Any], *inputs: dict[str, Any], **top: Any) -> RobotContract:
    action = {
        "units": ["1"] * len(action["names"]),
        "record": {
            "topic": "/r",
            "type": "std_msgs/msg/Float64MultiArray",
            "max_age_s": 0.1,
            "alignment": {"timeline": "receive"},
        },
        "sinks": [{"topic": "/s", "type": "std_msgs/msg/Float64MultiArray"}],
        **copy.deepcopy(action),
    }
    return parse_contract({"robot_type": "r", "fps": 10, "inputs": list(inputs), "action": action, **top}, "robot.yaml")


def with_limits(action: dict[str, Any], **limits: Any) -> dict[str, Any]:
    return {**action, "limits": {**action["limits"], **limits}}


def test_the_one_pose_gives_position_and_orientation() -> None:
    sources = measured_sources(contract(POSE, ARM, TOOL))
    assert sources.position == ((1, 4), (1, 5), (1, 6))
    assert sources.orientation == ((1, 0), (1, 1), (1, 2), (1, 3))
    assert sources.joints is None
    assert sources.inputs == (1,)


def test_an_odometry_is_a_pose_too() -> None:
    odometry = {**TOOL, "type": "nav_msgs/msg/Odometry", "fields": [f"pose.{field}" for field in POSITION]}
    sources = measured_sources(contract(POSE, odometry))
    assert sources.position == ((0, 0), (0, 1), (0, 2))
    assert sources.orientation is None


def test_joints_are_found_by_name_in_several_messages_and_in_any_order() -> None:
    sources = measured_sources(contract(JOINTS, ARM, TOOL, HAND))
    assert sources.joints == ((0, 1), (0, 0), (2, 1), (2, 0))
    assert sources.inputs == (0, 2)


def test_a_gripper_need_not_be_measured_and_every_other_joint_must() -> None:
    assert measured_sources(contract(JOINTS, ARM, {**HAND, "joints": ["wrist"]})).joints == (
        (0, 1),
        (0, 0),
        (1, 0),
        None,
    )
    with pytest.raises(
        ContractError, match=r"action\.limits need the measured positions .* no JointState input holds wrist"
    ):
        contract(JOINTS, ARM)


def test_velocities_of_joints_are_no_positions() -> None:
    with pytest.raises(ContractError, match="no JointState input holds shoulder, elbow"):
        contract(JOINTS, {**ARM, "field": "velocity"}, HAND)


def test_a_joint_on_two_topics_must_be_named() -> None:
    other = {**HAND, "key": "observation.other", "topic": "/other", "joints": ["wrist"]}
    with pytest.raises(ContractError, match=r"'wrist' is measured on /hand/joint_states and /other; say which one in"):
        contract(JOINTS, ARM, HAND, other)


def test_two_selections_of_one_topic_are_one_source() -> None:
    assert measured_sources(contract(JOINTS, ARM, HAND, {**HAND, "key": "observation.again"})).joints == (
        (0, 1), (0, 0), (1, 1), (1, 0),
    )  # fmt: skip


@pytest.mark.parametrize("action", [POSE, DISPLACEMENT], ids=["pose", "displacement"])
def test_two_poses_must_be_told_apart(action: dict[str, Any]) -> None:
    camera = {**TOOL, "key": "observation.target", "topic": "/target"}
    with pytest.raises(
        ContractError, match=r"observation\.tool and observation\.target hold one; say which in action\.measured"
    ):
        contract(action, TOOL, camera)
    named = {**action, "measured": {"position": {"key": "observation.target", "names": POSITION}}}
    assert measured_sources(contract(named, TOOL, camera)).position == ((1, 4), (1, 5), (1, 6))
    assert measured_sources(contract(named, TOOL, camera)).orientation == ((1, 0), (1, 1), (1, 2), (1, 3))


def test_the_transform_of_the_tool_is_taken_where_no_message_of_a_pose_is() -> None:
    transform = {
        "key": "observation.tf",
        "topic": "/tf",
        "type": "tf2_msgs/msg/TFMessage",
        "transform": {"parent": "base_link", "child": "tool0"},
        "max_age_s": 0.2,
    }
    alone = measured_sources(contract(DISPLACEMENT, transform, tool_frame="tool0"))
    assert alone.position == ((0, 0), (0, 1), (0, 2))
    assert alone.orientation == ((0, 3), (0, 4), (0, 5), (0, 6))
    assert measured_sources(contract(DISPLACEMENT, transform, TOOL, tool_frame="tool0")).position == (
        (1, 4), (1, 5), (1, 6),
    )  # fmt: skip
    with pytest.raises(ContractError, match=r"no PoseStamped or Odometry input holds it"):
        contract(DISPLACEMENT, transform)  # of what frame the motion is, is not said


def test_a_pose_in_another_frame_is_not_taken() -> None:
    with pytest.raises(ContractError, match=r"no PoseStamped or Odometry input holds it"):
        contract(DISPLACEMENT, {**TOOL, "frame": "camera"})
    named = {**DISPLACEMENT, "measured": {"position": {"key": "observation.tool", "names": POSITION}}}
    with pytest.raises(
        ContractError, match=r"'pose\.position\.x' is measured in the frame 'camera' and not in base_frame"
    ):
        contract(named, {**TOOL, "frame": "camera"})


def test_without_limits_nothing_must_be_measured() -> None:
    assert measured_sources(contract({**POSE, "limits": {}}, ARM)).position is None
    assert measured_sources(contract({**DISPLACEMENT, "limits": {"max_speed": 1.0}}, ARM)).position is None


@pytest.mark.parametrize("limit", ["max_speed", "max_acceleration", "max_following_error"])
def test_a_bounded_pose_needs_its_position(limit: str) -> None:
    with pytest.raises(
        ContractError, match=r"action\.limits need the measured position of the end effector in 'base_link'"
    ):
        contract({**POSE, "limits": {limit: 1.0}}, ARM)


@pytest.mark.parametrize("limit", ["max_angular_speed", "max_angular_acceleration", "max_angular_following_error"])
def test_a_bounded_turn_needs_the_orientation(limit: str) -> None:
    only = {**TOOL, "fields": POSITION}
    assert contract({**POSE, "rotation": "none", "names": list("abc"), "limits": {"max_angular_speed": 1.0}}, only)
    with pytest.raises(ContractError, match=r"action\.limits need the measured orientation"):
        contract({**POSE, "limits": {limit: 1.0}}, only)


@pytest.mark.parametrize(
    ("measured", "complaint"),
    [
        (
            {"position": {"key": "observation.tol", "names": POSITION}},
            r"measured\.position\.key 'observation\.tol' is not a vector input.*Did you mean 'observation\.tool'",
        ),
        (
            {"position": {"key": "observation.tool", "names": ["x", "y", "z"]}},
            r"measured\.position\.names\[0\] 'x' is not a number of observation\.tool",
        ),
        (
            {"position": {"key": "observation.tool", "names": POSITION[::-1]}},
            r"names\[0\] 'pose\.position\.z' is the field pose\.position\.z and not position\.x",
        ),
        ({"position": {"key": "observation.tool"}}, r"measured\.position\.names is required and missing"),
        (
            {"orientation": {"key": "observation.tool", "names": ORIENTATION[:3]}},
            r"measured\.orientation\.names expected 4 entries, got 3",
        ),
        (
            {"orientation": {"key": "observation.tool", "names": POSITION, "rotation": "none"}},
            r"measured\.orientation\.rotation 'none' is not one of",
        ),
        ({"joints": {"key": "observation.arm"}}, r"measured\.joints has no meaning for a pose action"),
        ({"positon": {}}, r"measured\.positon is not a field here.*Did you mean 'position'"),
    ],
)
def test_a_mistake_in_measured_is_named(measured: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        contract({**POSE, "measured": measured}, TOOL, ARM)


def test_joints_may_be_numbers_of_an_array() -> None:
    array = {
        "key": "observation.encoders",
        "topic": "/encoders",
        "type": "std_msgs/msg/Float64MultiArray",
        "names": ["e0", "e1", "e2"],
        "alignment": {"timeline": "receive"},
        "max_age_s": 0.1,
    }
    named = {**JOINTS, "measured": {"joints": {"key": "observation.encoders", "names": ["e2", "e0", "e1"]}}}
    assert measured_sources(contract(named, array)).joints == ((0, 2), (0, 0), (0, 1), None)
    named["measured"]["joints"]["names"] = ["e2", "e0"]
    with pytest.raises(ContractError, match=r"measured\.joints\.names expected one name per joint of the action"):
        contract(named, array)


@pytest.mark.parametrize("frame", ["base_lnk", "tool0", "world"])
def test_a_motion_in_a_frame_that_nobody_knows_is_refused(frame: str) -> None:
    with pytest.raises(
        ContractError, match=rf"action\.frame '{frame}' is neither base_frame nor tool_frame \(base_link"
    ):
        contract({**DISPLACEMENT, "frame": frame}, TOOL)


def test_the_frame_of_a_motion_is_the_base_unless_it_says_another() -> None:
    assert contract(DISPLACEMENT, TOOL, base_frame="arm_base").action.frame == "arm_base"
    assert contract({**DISPLACEMENT, "frame": "tool0"}, TOOL, tool_frame="tool0").action.frame == "tool0"


def test_a_box_around_motions_in_the_tool_frame_needs_the_orientation() -> None:
    with pytest.raises(ContractError, match=r"action\.frame need the measured orientation of the end effector"):
        contract({**DISPLACEMENT, "frame": "tool0"}, {**TOOL, "fields": POSITION}, tool_frame="tool0")
    free = {**DISPLACEMENT, "frame": "tool0", "limits": {"max_speed": 1.0}}
    assert contract(free, {**TOOL, "fields": POSITION}, tool_frame="tool0")


def test_a_bounded_pose_in_the_tool_frame_is_refused() -> None:
    with pytest.raises(ContractError, match=r"action\.frame a pose in the tool frame 'tool0' cannot be held"):
        contract(
            {**with_limits(POSE, workspace=DISPLACEMENT["limits"]["workspace"]), "frame": "tool0"},
            TOOL,
            tool_frame="tool0",
        )


def test_a_measurement_is_put_together_from_the_newest_vectors() -> None:
    sources = measured_sources(contract(POSE, ARM, TOOL))
    vector = np.array([0.0, 0.0, 2.0, 0.0, 0.1, 0.2, 0.3], np.float32)
    measured = measurement_from(sources, {1: vector}, {0: 5, 1: 7})
    np.testing.assert_allclose(measured.position, [0.1, 0.2, 0.3], atol=1e-7)
    np.testing.assert_allclose(measured.orientation, [0, 0, 1, 0])
    assert (measured.joints, measured.stamp_ns) == (None, 7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_what_is_no_number_is_not_known(bad: float) -> None:
    sources = measured_sources(contract(POSE, TOOL))
    measured = measurement_from(sources, {0: np.array([0, 0, 0, 1.0, bad, 0, 0])}, {0: 1})
    assert measured.position is None
    assert measured.orientation is not None
    assert measurement_from(sources, {0: np.array([0, 0, 0, bad, 0, 0, 0])}, {0: 1}).orientation is None
    assert measurement_from(sources, {0: np.zeros(7)}, {0: 1}).orientation is None


def test_joints_without_a_sample_are_nan_and_the_oldest_stamp_counts() -> None:
    sources = measured_sources(contract(JOINTS, ARM, HAND))
    measured = measurement_from(sources, {0: np.array([1.0, 2.0])}, {0: 9})
    np.testing.assert_array_equal(measured.joints, [2.0, 1.0, np.nan, np.nan])
    whole = measurement_from(sources, {0: np.array([1.0, 2.0]), 1: np.array([3.0, 4.0])}, {0: 9, 1: 4})
    np.testing.assert_array_equal(whole.joints, [2.0, 1.0, 4.0, 3.0])
    assert whole.stamp_ns == 4
