"""Recorded actions of one or several topics, and sinks for every number of the action."""

from typing import Any

import pytest

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import ContractError

TWIST, NUMBER = "geometry_msgs/msg/Twist", "std_msgs/msg/Float64"
JOINTS, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
RECEIVED = {"max_age_s": 0.5, "alignment": {"timeline": "receive"}}
DRIVE = {"topic": "/cmd_vel", "type": TWIST, **RECEIVED}
HAND = {"topic": "/hand", "type": NUMBER, "names": ["grip"], **RECEIVED}


def base(**changes: Any) -> RobotContract:
    action = {
        "representation": "planar_twist",
        "names": ["forward", "turn", "grip"],
        "units": ["m/s", "rad/s", "m"],
        "gripper": {"name": "grip", "open": 0.08, "closed": 0.0},
        "record": [DRIVE, HAND],
        "sinks": [{"topic": "/cmd_vel", "type": TWIST}, {"topic": "/hand", "type": NUMBER, "names": ["grip"]}],
        **changes,
    }
    odometry = {"key": "observation.odometry", "topic": "/odom", "type": "nav_msgs/msg/Odometry", "max_age_s": 0.2}
    top = {"robot_type": "base", "fps": 10, "inputs": [odometry]}
    return parse_contract({**top, "action": {k: v for k, v in action.items() if v is not None}}, "base.yaml")


def test_a_twist_and_a_gripper_beside_it_are_one_action() -> None:
    action = base().action
    assert [(r.topic, r.names) for r in action.records] == [("/cmd_vel", ("forward", "turn")), ("/hand", ("grip",))]
    assert action.unsent == ()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"record": DRIVE}, r"action.record.type geometry_msgs/msg/Twist carries no gripper, and the action has one"),
        ({"record": [DRIVE]}, r"action.record\[0\].type geometry_msgs/msg/Twist carries no gripper"),
        ({"record": [HAND, HAND]}, r"action.record gives no forward, turn; every number"),
        ({"record": [DRIVE, HAND, HAND]}, r"action.record gives 'grip' 2 times"),
        ({"record": [DRIVE, {**HAND, "names": ["grap"]}]}, r"names\[0\] 'grap' is not one of .* Did you mean 'grip'\?"),
        ({"record": [DRIVE, {**HAND, "names": ["grip", "turn"]}]}, r"names must hold one name, got grip, turn"),
        ({"record": [DRIVE, {**HAND, "type": ARRAY, "names": {"grip": "x"}}]}, r"must be a list: std_msgs/.* does not"),
        ({"record": [DRIVE, {**HAND, "name": ["grip"]}]}, r"record\[1\].name"),
        ({"sinks": [{"topic": "/c", "type": TWIST}]}, r"action.sinks carry no grip: the robot would never be told"),
        (
            {"sinks": [{"topic": "/c", "type": "vla_ros_msgs/msg/ActionChunk"}]},
            r"action.sinks carry no forward, turn, grip",
        ),
        ({"unsent": ["grip"]}, r"action.unsent names grip, which a sink carries"),
        ({"unsent": ["grap"]}, r"action.unsent\[0\] 'grap' is not one of"),
        ({"rotation": "rotation_vector"}, r"action.rotation must be 'none' for a planar twist"),
        (
            {"names": ["a", "b", "c", "d", "grip"], "units": ["1"] * 5},
            r"action.names a planar_twist has linear x, angular z, or linear x, y",
        ),
        ({"limits": {"lower": [0.1, -1, 0], "upper": [1, 1, 1]}}, r"of 'forward' are 0.1 to 1 and exclude zero"),
        ({"sinks": [{"topic": "/h", "type": NUMBER}]}, r"names of a std_msgs/msg/Float64 must hold one name, got none"),
        (
            {"sinks": [{"topic": "/h", "type": JOINTS, "names": ["turn"]}]},
            r"sensor_msgs/msg/JointState cannot carry a planar_twist action",
        ),
    ],
)
def test_a_mistake_names_its_place(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ContractError, match=error):
        base(**changes)


def test_a_number_that_is_not_sent_is_said_not_to_be() -> None:
    action = base(sinks=[{"topic": "/c", "type": TWIST}], unsent=["grip"]).action
    assert action.unsent == ("grip",)


def test_the_rotation_of_a_pose_is_read_from_one_part() -> None:
    names = ["x", "y", "z", "qx", "qy", "qz", "qw"]
    parts = [
        {"topic": "/a", "type": ARRAY, "names": ["x", "y", "z", "qx"], **RECEIVED},
        {"topic": "/b", "type": ARRAY, "names": ["qy", "qz", "qw"], **RECEIVED},
    ]
    changes = {
        "representation": "pose",
        "rotation": "quaternion",
        "names": names,
        "units": ["1"] * 7,
        "gripper": None,
        "sinks": [{"topic": "/c", "type": ARRAY}],
    }
    with pytest.raises(ContractError, match=r"record\[0\].names must hold the rotation's numbers together: qx, qy"):
        base(record=parts, **changes)


def test_each_part_of_the_record_counts_in_the_hash_and_not_how_it_or_a_command_travels() -> None:
    elsewhere = [
        {**DRIVE, "topic": "/teleop", "qos": {"depth": 3}},
        {**HAND, "topic": "/teleop_hand", "max_age_s": 1.0},
    ]
    assert base(record=elsewhere).hash == base().hash
    nearest = {"method": "nearest", "timeline": "receive"}
    assert base(record=[DRIVE, {**HAND, "alignment": nearest}]).hash != base().hash
    assert base(record=[{**DRIVE, "alignment": nearest}, HAND]).hash != base().hash
    hand = {"topic": "/hand_states", "type": JOINTS, "max_age_s": 0.5}
    of_joints = base(record=[DRIVE, {**hand, "names": ["grip"]}])
    assert of_joints.hash != base().hash
    assert base(record=[DRIVE, {**hand, "names": {"grip": "finger_joint"}}]).hash == of_joints.hash
    unsent = base(sinks=[{"topic": "/cmd_vel", "type": TWIST}], unsent=["grip"])
    assert unsent.hash == base().hash


def test_a_misspelt_field_of_a_part_or_a_sink_names_the_nearest() -> None:
    with pytest.raises(ContractError, match=r"action.record\[1\].nmes is not a field here; .*Did you mean 'names'\?"):
        base(record=[DRIVE, {**HAND, "nmes": ["grip"]}])
    with pytest.raises(ContractError, match=r"action.sinks\[0\].unit is not a field here; .*Did you mean 'units'\?"):
        base(sinks=[{"topic": "/cmd_vel", "type": TWIST, "unit": "si"}], unsent=["grip"])


def test_a_bound_of_a_sink_of_two_numbers_is_held() -> None:
    sink = {"topic": "/cmd_vel", "type": TWIST, "units": "unitless", "linear_scale": 0.0, "angular_scale": 1.0}
    with pytest.raises(ContractError, match=r"action.sinks\[0\].linear_scale must be above 0, got 0"):
        base(sinks=[sink], unsent=["grip"])
