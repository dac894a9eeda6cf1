from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs.msg")

from vla_ros.data_types import ActionChunk, Command, ContractError
from vla_ros.data_types.rotations import convert
from vla_ros.messages import decode_action
from vla_ros.messages.encoders import (
    check_sinks,
    encode_chunk,
    encode_command,
    message_class,
)

EE, TWIST = "vla_ros_msgs/msg/EndEffectorAction", "geometry_msgs/msg/TwistStamped"
POSE, ARRAY = "geometry_msgs/msg/PoseStamped", "std_msgs/msg/Float64MultiArray"
ROTATIONS = {"none": [], "rotation_vector": [0.1, -0.2, 0.3]}
ROTATIONS["quaternion"] = convert(ROTATIONS["rotation_vector"], "rotation_vector", "quaternion").tolist()
ROTATIONS["rot6d"] = convert(ROTATIONS["rotation_vector"], "rotation_vector", "rot6d").tolist()
WORDS = ["r0", "r1", "r2", "r3", "r4", "r5"]


def command(action: list[float]) -> Command:
    return Command(np.array(action), 12_345_678_901, 50_000_000, 12_300_000_001, 7, 2)


def contract_of(
    make_contract: Any, representation: str, rotation: str, sink: dict[str, Any], gripper: bool = True
) -> Any:
    names = ["x", "y", "z", *WORDS[: len(ROTATIONS[rotation])], *(["g"] if gripper else [])]
    record = EE if representation != "joint_position" else "sensor_msgs/msg/JointState"
    whole = sink["type"] in (EE, ARRAY) or "Trajectory" in sink["type"]
    carried = sink.get("names", names if whole else [] if "Chunk" in sink["type"] else names[: len(names) - gripper])
    unsent = [name for name in names if name not in carried]
    return make_contract(
        action={
            "representation": representation,
            "rotation": rotation,
            "names": names,
            "units": ["1"] * len(names),
            "gripper": {"name": "g", "open": 0.0, "closed": 1.0} if gripper else None,
            "record": {"topic": "/demonstration", "type": record, "max_age_s": 0.1},
            "sinks": [{"topic": "/command", **sink}],
            "unsent": unsent,
        }
    )


@pytest.mark.parametrize(
    ("representation", "rotation"),
    [(r, form) for r in ("displacement", "pose") for form in ("rotation_vector", "quaternion", "rot6d")]
    + [("twist", "rotation_vector")],
)
def test_decoding_an_end_effector_action_undoes_encoding_it(
    representation: str, rotation: str, make_contract: Any
) -> None:
    contract = contract_of(make_contract, representation, rotation, {"type": EE})
    action = [0.01, 0.02, 0.03, *ROTATIONS[rotation], 0.5]
    message = encode_command(contract.action.sinks[0], contract, command(action))
    np.testing.assert_allclose(decode_action(contract.action, EE, message), action, atol=1e-12)


def test_an_end_effector_action_says_everything(make_contract: Any) -> None:
    contract = contract_of(make_contract, "displacement", "none", {"type": EE}, gripper=False)
    message = encode_command(contract.action.sinks[0], contract, command([0.1, 0.2, 0.3]))
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345_678_901)
    assert (message.observation_stamp.sec, message.observation_stamp.nanosec) == (12, 300_000_001)
    assert message.header.frame_id == "base_link"
    assert (message.period.sec, message.period.nanosec) == (0, 50_000_000)
    assert (message.chunk_id, message.chunk_index, message.representation) == (7, 2, 0)
    assert np.isnan(message.gripper)
    assert (message.angular.x, message.angular.y, message.angular.z) == (0, 0, 0)


def test_an_orientation_that_nobody_decided_on_is_nan_or_refused(make_contract: Any) -> None:
    contract = contract_of(make_contract, "pose", "none", {"type": EE})
    message = encode_command(contract.action.sinks[0], contract, command([0.1, 0.2, 0.3, 1.0]))
    assert np.isnan(message.angular.x)
    check_sinks(contract)
    action = replace(contract.action, sinks=(replace(contract.action.sinks[0], type=POSE),))
    with pytest.raises(ContractError, match=r"action\.sinks\[0\] a PoseStamped commands an orientation"):
        check_sinks(replace(contract, action=action))


def test_a_displacement_becomes_a_velocity_by_its_period(make_contract: Any) -> None:
    contract = contract_of(make_contract, "displacement", "rotation_vector", {"type": TWIST})
    message = encode_command(contract.action.sinks[0], contract, command([0.01, 0, -0.02, 0, 0, 0.05, 1]))
    assert (message.twist.linear.x, message.twist.linear.z) == pytest.approx((0.2, -0.4))
    assert message.twist.angular.z == pytest.approx(1.0)


def test_a_unitless_twist_is_scaled_and_clipped(make_contract: Any) -> None:
    sink = {"type": TWIST, "units": "unitless", "linear_scale": 0.4, "angular_scale": 2.0}
    contract = contract_of(make_contract, "twist", "rotation_vector", sink)
    message = encode_command(contract.action.sinks[0], contract, command([0.2, -4.0, 0, 0, 0, 1.0, 1]))
    assert (message.twist.linear.x, message.twist.linear.y) == pytest.approx((0.5, -1.0))
    assert message.twist.angular.z == pytest.approx(0.5)


def test_a_velocity_beyond_half_a_turn_is_not_wrapped(make_contract: Any) -> None:
    contract = contract_of(make_contract, "twist", "rotation_vector", {"type": EE})
    message = encode_command(contract.action.sinks[0], contract, command([0, 0, 0, 0, 0, 5.0, 0]))
    assert message.angular.z == 5.0
    assert decode_action(contract.action, EE, message)[5] == 5.0


@pytest.mark.parametrize("rotation", ["rotation_vector", "quaternion", "rot6d"])
def test_a_pose_carries_a_unit_quaternion(rotation: str, make_contract: Any) -> None:
    contract = contract_of(make_contract, "pose", rotation, {"type": POSE})
    action = [0.4, 0.1, 0.2, *ROTATIONS[rotation], 0.0]
    pose = encode_command(contract.action.sinks[0], contract, command(action)).pose
    got = [pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w]
    np.testing.assert_allclose(got, ROTATIONS["quaternion"], atol=1e-12)
    assert pose.position.x == 0.4


def test_an_array_carries_the_named_numbers_in_the_sink_s_order(make_contract: Any) -> None:
    contract = contract_of(make_contract, "displacement", "none", {"type": ARRAY, "names": ["g", "x"]})
    message = encode_command(contract.action.sinks[0], contract, command([0.1, 0.2, 0.3, 0.9]))
    assert list(message.data) == [0.9, 0.1]


def test_a_trajectory_reaches_its_first_waypoint_after_one_period(make_contract: Any) -> None:
    sink = {"type": "trajectory_msgs/msg/JointTrajectory"}
    contract = contract_of(make_contract, "joint_position", "none", sink, gripper=False)
    chunk = ActionChunk(np.arange(6.0).reshape(2, 3), 10**9, 50_000_000, 3)
    message = encode_chunk(contract.action.sinks[0], contract, chunk)
    assert list(message.joint_names) == ["x", "y", "z"]
    assert [p.time_from_start.nanosec for p in message.points] == [50_000_000, 100_000_000]
    assert [list(p.positions) for p in message.points] == [[0, 1, 2], [3, 4, 5]]
    assert message.header.stamp.sec == 1


def test_a_chunk_carries_all_its_steps(make_contract: Any) -> None:
    contract = contract_of(make_contract, "displacement", "none", {"type": "vla_ros_msgs/msg/ActionChunk"})
    chunk = ActionChunk(np.arange(8.0).reshape(2, 4), 10**9, 50_000_000, 3, 7_000_000)
    message = encode_chunk(contract.action.sinks[0], contract, chunk)
    assert (message.horizon, message.action_dim, message.chunk_id) == (2, 4, 3)
    np.testing.assert_array_equal(np.reshape(message.actions, (2, 4)), chunk.actions_HA)
    assert list(message.names) == ["x", "y", "z", "g"]
    assert message.inference_time.nanosec == 7_000_000


def planar(make_contract: Any, names: list[str], *sinks: dict[str, Any]) -> Any:
    receive = {"timeline": "receive"}
    return make_contract(
        action={
            "representation": "planar_twist",
            "rotation": "none",
            "names": names,
            "units": ["1"] * len(names),
            "gripper": {"name": "g", "open": 0.0, "closed": 1.0} if names[-1] == "g" else None,
            "record": {"topic": "/r", "type": ARRAY, "max_age_s": 0.1, "alignment": receive},
            "sinks": [{"topic": f"/command_{index}", **sink} for index, sink in enumerate(sinks)],
        }
    )


@pytest.mark.parametrize("names", [["x", "turn"], ["x", "y", "turn"]])
@pytest.mark.parametrize("kind", ["geometry_msgs/msg/Twist", TWIST])
def test_a_base_is_told_its_two_or_three_numbers_and_zero_for_the_rest(
    kind: str, names: list[str], make_contract: Any
) -> None:
    contract = planar(make_contract, names, {"type": kind})
    action = [0.3, 0.2, -0.5] if len(names) == 3 else [0.3, -0.5]
    message = encode_command(contract.action.sinks[0], contract, command(action))
    twist = message.twist if kind == TWIST else message
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.3, 0.2 if len(names) == 3 else 0.0, -0.5)
    assert (twist.linear.z, twist.angular.x, twist.angular.y) == (0, 0, 0)
    np.testing.assert_array_equal(decode_action(contract.action, kind, message), action)


def test_a_gripper_has_a_sink_of_its_own_beside_the_motion(make_contract: Any) -> None:
    sinks = [
        {"type": "geometry_msgs/msg/Twist", "units": "unitless", "linear_scale": 0.5, "angular_scale": 1.0},
        {"type": "std_msgs/msg/Float64", "names": ["g"]},
        {"type": "std_msgs/msg/Float32", "names": ["g"]},
        {"type": "sensor_msgs/msg/JointState", "names": {"g": "finger_joint"}},
    ]
    contract = planar(make_contract, ["x", "turn", "g"], *sinks)
    twist, double, single, joints = (
        encode_command(sink, contract, command([0.25, 0.5, 0.125])) for sink in contract.action.sinks
    )
    assert (twist.linear.x, twist.angular.z) == (0.5, 0.5)
    assert (double.data, single.data) == (0.125, 0.125)
    assert (list(joints.name), list(joints.position)) == (["finger_joint"], [0.125])
    assert joints.header.stamp.sec == 12


def test_a_trajectory_names_the_joints_as_the_robot_does(make_contract: Any) -> None:
    sink = {"type": "trajectory_msgs/msg/JointTrajectory", "names": {"x": "joint_1", "y": "joint_2", "z": "joint_3"}}
    contract = contract_of(make_contract, "joint_position", "none", sink, gripper=False)
    chunk = ActionChunk(np.arange(6.0).reshape(2, 3), 10**9, 50_000_000, 3)
    message = encode_chunk(contract.action.sinks[0], contract, chunk)
    assert list(message.joint_names) == ["joint_1", "joint_2", "joint_3"]
    assert list(message.points[1].positions) == [3, 4, 5]


def test_qos_of_the_contract_is_what_rclpy_gets() -> None:
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    from vla_ros.contract import QosSpec
    from vla_ros.messages.qos import to_profile

    profile = to_profile(QosSpec("reliable", "transient_local", 3))
    assert profile.reliability == ReliabilityPolicy.RELIABLE
    assert profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert profile.depth == 3
    assert to_profile(QosSpec("best_effort")).reliability == ReliabilityPolicy.BEST_EFFORT


def test_message_classes_are_found_by_their_ros_name() -> None:
    assert message_class(EE).__name__ == "EndEffectorAction"
