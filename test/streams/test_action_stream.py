"""The recorded action from one or several topics."""

from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import DecodeError
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.messages.samples import header, make_example_action, new
from vla_ros.streams import ActionStream

MS = 1_000_000
TICK = 1000 * MS
TWIST, NUMBER, JOINTS = "geometry_msgs/msg/Twist", "std_msgs/msg/Float64", "sensor_msgs/msg/JointState"
RECEIVED = {"max_age_s": 0.2, "alignment": {"timeline": "receive"}}


def contract_of(record: Any, representation: str = "planar_twist", **changes: Any) -> RobotContract:
    action = {
        "representation": representation,
        "names": ["forward", "turn", "grip"],
        "units": ["m/s", "rad/s", "m"],
        "gripper": {"name": "grip", "open": 0.08, "closed": 0.0},
        "record": record,
        "sinks": [{"topic": "/s", "type": "std_msgs/msg/Float64MultiArray"}],
        **changes,
    }
    inputs = [{"key": "observation.j", "topic": "/j", "type": JOINTS, "joints": ["a"], "max_age_s": 0.2}]
    return parse_contract({"robot_type": "r", "fps": 20, "inputs": inputs, "action": action}, "r.yaml")


def twist(x: float, y: float, turn: float) -> bytes:
    vector = "geometry_msgs/msg/Vector3"
    return serialize(new(TWIST, new(vector, x, y, 0.0), new(vector, 0.0, 0.0, turn)), TWIST)


def test_the_parts_of_several_topics_are_put_together_in_the_action_s_order() -> None:
    parts = [
        {"topic": "/hand", "type": NUMBER, "names": ["grip"], **RECEIVED},
        {"topic": "/cmd_vel", "type": TWIST, **RECEIVED},
    ]
    stream = ActionStream(contract_of(parts), deserialize)
    stream.push(serialize(new(NUMBER, 0.04), NUMBER), 950 * MS)
    assert stream.value_at(TICK) is None
    stream.push(twist(0.3, 9.0, -0.5), 990 * MS, 1)
    np.testing.assert_array_equal(stream.value_at(TICK), [0.3, -0.5, 0.04])
    assert not stream.complete(TICK)
    stream.push(twist(0.3, 0.0, -0.5), TICK, 1)
    assert not stream.complete(TICK)
    stream.push(serialize(new(NUMBER, 0.05), NUMBER), TICK)
    assert stream.complete(TICK)
    assert stream.value_at(TICK + 250 * MS) is None


def test_a_base_that_moves_sideways_has_three_numbers() -> None:
    changes = {"names": ["x", "y", "turn"], "units": ["1"] * 3, "gripper": None}
    stream = ActionStream(contract_of({"topic": "/c", "type": TWIST, **RECEIVED}, **changes), deserialize)
    stream.push(twist(0.3, 0.1, -0.5), 990 * MS)
    np.testing.assert_array_equal(stream.value_at(TICK), [0.3, 0.1, -0.5])


def test_joints_of_two_leaders_on_one_topic_are_merged_under_the_action_s_names() -> None:
    names = {"forward": "j1", "turn": "j2", "grip": "j3"}
    record = {"topic": "/leader", "type": JOINTS, "max_age_s": 0.2, "names": names}
    stream = ActionStream(contract_of(record, "joint_position"), deserialize)
    for joints, values, stamp in ((["j3", "j1"], [3.0, 1.0], 980), (["j2"], [2.0], 975)):
        message = new(JOINTS, header(stamp * MS, ""), joints, np.array(values), np.empty(0), np.empty(0))
        stream.push(serialize(message, JOINTS), stamp * MS)
    np.testing.assert_array_equal(stream.value_at(TICK), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("type_name", "representation"),
    [
        ("nav_msgs/msg/Odometry", "planar_twist"),
        ("geometry_msgs/msg/TwistStamped", "planar_twist"),
        ("geometry_msgs/msg/TwistStamped", "twist"),
        ("nav_msgs/msg/Odometry", "twist"),
        ("nav_msgs/msg/Odometry", "pose"),
        ("geometry_msgs/msg/PoseWithCovarianceStamped", "pose"),
    ],
)
def test_stamped_motions_with_a_gripper_beside_them_are_recorded(type_name: str, representation: str) -> None:
    names = {"planar_twist": ["x", "turn"], "twist": ["x", "y", "z"], "pose": ["x", "y", "z"]}[representation]
    parts = [
        {"topic": "/motion", "type": type_name, "max_age_s": 0.2},
        {"topic": "/hand", "type": JOINTS, "names": {"grip": "finger"}, "max_age_s": 0.2},
    ]
    contract = contract_of(parts, representation, names=[*names, "grip"], units=["1"] * (len(names) + 1))
    stream = ActionStream(contract, deserialize)
    messages = [make_example_action(contract.action, 990 * MS, record=record) for record in contract.action.records]
    for index, (message, record) in enumerate(zip(messages, contract.action.records, strict=True)):
        stream.push(serialize(message, record.type), 990 * MS, index)
    value = stream.value_at(TICK)
    assert value is not None
    body = messages[0].pose if representation == "pose" else messages[0].twist
    body = getattr(body, representation.rpartition("_")[2], body)  # within the part with covariance
    where = body.position if representation == "pose" else body.linear
    assert value[0] == where.x
    assert value[1] == (body.angular.z if representation == "planar_twist" else where.y)
    assert value[-1] == messages[1].position[list(messages[1].name).index("finger")]


def test_a_trajectory_of_one_waypoint_is_a_command_and_a_plan_of_several_is_refused() -> None:
    kind = "trajectory_msgs/msg/JointTrajectory"
    names = {"forward": "j1", "turn": "j2", "grip": "j3"}
    record = {"topic": "/leader", "type": kind, "max_age_s": 0.2, "names": names}
    contract = contract_of(record, "joint_position")
    stream = ActionStream(contract, deserialize)
    message = make_example_action(contract.action, 980 * MS)
    stream.push(serialize(message, kind), 980 * MS)
    np.testing.assert_array_equal(stream.value_at(TICK), message.points[0].positions)
    message = make_example_action(contract.action, 990 * MS)
    message.points.append(message.points[0])
    stream.push(serialize(message, kind), 990 * MS)
    with pytest.raises(DecodeError, match=r"/leader \(action\): a recorded action is one waypoint a message, got 2"):
        stream.value_at(TICK)
