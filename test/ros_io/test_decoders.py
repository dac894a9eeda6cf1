from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_ros.contract.types import ACTION_SOURCES, INPUT_TYPES
from vla_ros.data_types import DecodeError
from vla_ros.ros_io import decode_action, decode_input
from vla_ros.ros_io.decoders import DECODERS
from vla_ros.ros_io.message_types import deserialize, serialize
from vla_ros.ros_io.samples import ACTION_SAMPLES, SAMPLES, make_example_action, make_example_message
from vla_ros.ros_io.stamps import header_stamp_ns

JOINTS = "sensor_msgs/msg/JointState"
STAMP_NS = 12_345_678_901


def test_every_type_a_contract_may_name_has_a_decoder_and_a_sample() -> None:
    assert set(DECODERS) == set(SAMPLES) == set(INPUT_TYPES)
    assert set(ACTION_SAMPLES) == set(ACTION_SOURCES)


@pytest.mark.parametrize("type_name", INPUT_TYPES)
def test_a_sample_decodes_to_the_contract_s_form(type_name: str, make_contract: Any) -> None:
    spec = make_contract(type_name).inputs[0]
    value = decode_input(spec, make_example_message(spec, STAMP_NS))
    expected = spec.shape[1:] if spec.window is not None else spec.shape
    assert value.shape == expected
    assert value.dtype == (np.uint8 if spec.image is not None else np.float32)


@pytest.mark.parametrize("type_name", INPUT_TYPES)
def test_bag_bytes_and_live_messages_decode_identically(type_name: str, make_contract: Any) -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    from vla_ros.ros_io import rclpy_deserialize

    spec = make_contract(type_name).inputs[0]
    raw = serialize(make_example_message(spec, STAMP_NS, seed=3), type_name)
    live = rclpy_deserialize.deserialize(raw, type_name)
    value = decode_input(spec, deserialize(raw, type_name))
    np.testing.assert_array_equal(decode_input(spec, live), value)
    again = serialize_message(live)  # bytes as the middleware writes them
    np.testing.assert_array_equal(decode_input(spec, deserialize(again, type_name)), value)
    if INPUT_TYPES[type_name].has_header:
        assert header_stamp_ns(raw) == header_stamp_ns(again) == STAMP_NS


def test_joints_are_found_by_name_in_whatever_order_they_come(make_contract: Any) -> None:
    spec = make_contract(JOINTS).inputs[0]
    message = SimpleNamespace(header=None, name=["c", "x", "a", "b"], velocity=[3.0, 9.0, 1.0, 2.0])
    np.testing.assert_array_equal(decode_input(spec, message), [1, 2, 3])


def test_a_missing_joint_names_the_nearest(make_contract: Any) -> None:
    spec = make_contract(JOINTS, joints=["wrist_rol"]).inputs[0]
    message = SimpleNamespace(name=["elbow", "wrist_roll"], velocity=[1.0, 2.0])
    with pytest.raises(DecodeError, match=r"no joint 'wrist_rol' in the message, .* Did you mean 'wrist_roll'\?"):
        decode_input(spec, message)


def test_joints_without_the_chosen_field_are_refused(make_contract: Any) -> None:
    spec = make_contract(JOINTS).inputs[0]
    with pytest.raises(DecodeError, match="names 3 joints but has 0 velocity values"):
        decode_input(spec, SimpleNamespace(name=["a", "b", "c"], velocity=[]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_never_reach_a_policy(bad: float, make_contract: Any) -> None:
    spec = make_contract(JOINTS).inputs[0]
    with pytest.raises(DecodeError, match=r"'b' is (nan|inf), not a finite number"):
        decode_input(spec, SimpleNamespace(name=["a", "b", "c"], velocity=[0.0, bad, 0.0]))


def test_another_frame_than_the_contract_s_is_refused(make_contract: Any) -> None:
    spec = make_contract("geometry_msgs/msg/PoseStamped").inputs[0]
    message = make_example_message(replace(spec, frame="map"), STAMP_NS)
    with pytest.raises(DecodeError, match="frame_id is 'map', the contract says 'base_link'"):
        decode_input(spec, message)


def test_odometry_gives_the_fields_that_were_selected(make_contract: Any) -> None:
    spec = make_contract("nav_msgs/msg/Odometry").inputs[0]
    message = make_example_message(spec, STAMP_NS)
    expected = [message.pose.pose.position.x, message.twist.twist.linear.x]
    np.testing.assert_array_equal(decode_input(spec, message), np.float32(expected))


def test_an_imu_that_says_it_has_no_orientation_is_not_believed(make_contract: Any) -> None:
    fields = [f"orientation.{axis}" for axis in "xyzw"]
    spec = make_contract("sensor_msgs/msg/Imu", fields=fields).inputs[0]
    message = make_example_message(spec, STAMP_NS)
    message.orientation_covariance[0] = -1
    with pytest.raises(DecodeError, match="measures no orientation"):
        decode_input(spec, message)


def test_an_array_of_another_length_is_refused(make_contract: Any) -> None:
    spec = make_contract("std_msgs/msg/Float64MultiArray").inputs[0]
    with pytest.raises(DecodeError, match=r"expected 2 numbers \(p, q\), got 3"):
        decode_input(spec, SimpleNamespace(data=[1.0, 2.0, 3.0]))


@pytest.mark.parametrize("raw", [b"", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 8])
def test_bytes_without_a_valid_stamp_are_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="damaged or of another type"):
        header_stamp_ns(raw)


def test_a_big_endian_stamp_is_read() -> None:
    assert header_stamp_ns(b"\0\0\0\0" + (7).to_bytes(4, "big") + (5).to_bytes(4, "big")) == 7_000_000_005


def test_damaged_bytes_are_a_sentence() -> None:
    for raw in (b"", b"\0\1\0\0\1\2", b"\0\1\0\0" + b"\xff" * 40):
        with pytest.raises(DecodeError, match="do not hold a sensor_msgs/msg/JointState"):
            deserialize(raw, JOINTS)
    with pytest.raises(DecodeError, match=r"'sensor_msgs/msg/JointStat' is unknown.*JointState"):
        deserialize(b"\0\1\0\0", "sensor_msgs/msg/JointStat")


def test_damaged_bytes_are_a_sentence_from_rclpy_too() -> None:
    pytest.importorskip("rclpy")
    from vla_ros.data_types import ConfigError
    from vla_ros.ros_io import rclpy_deserialize

    with pytest.raises(DecodeError, match="do not hold a sensor_msgs/msg/JointState"):
        rclpy_deserialize.deserialize(b"\0\1", JOINTS)
    with pytest.raises(ConfigError, match="package 'no_such_msgs' is not installed"):
        rclpy_deserialize.message_class("no_such_msgs/msg/Thing")
    with pytest.raises(ConfigError, match=r"no such message\. Did you mean 'JointState'"):
        rclpy_deserialize.message_class("sensor_msgs/msg/JointStat")


def action_message(contract: Any, **changes: Any) -> Any:
    message = make_example_action(contract.action, STAMP_NS)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_an_end_effector_action_decodes_in_the_contract_s_order(make_contract: Any) -> None:
    contract = make_contract()
    message = action_message(contract)
    v, w = message.linear, message.angular
    expected = [v.x, v.y, v.z, w.x, w.y, w.z, message.gripper]
    value = decode_action(contract.action, contract.action.record.type, message)
    np.testing.assert_array_equal(value, expected)
    assert value.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"representation": 1}, "is a twist, the contract says displacement"),
        ({"gripper": float("nan")}, "'gripper' is nan"),
        ({"header": SimpleNamespace(frame_id="tool")}, "frame_id is 'tool'"),
    ],
)
def test_an_action_of_another_meaning_is_refused(changes: dict[str, Any], sentence: str, make_contract: Any) -> None:
    contract = make_contract()
    with pytest.raises(DecodeError, match=sentence):
        decode_action(contract.action, contract.action.record.type, action_message(contract, **changes))


def test_a_joint_action_is_read_by_name(make_contract: Any) -> None:
    action = {
        "representation": "joint_position",
        "rotation": "none",
        "names": ["a", "b"],
        "units": ["rad", "rad"],
        "gripper": None,
        "record": {"topic": "/leader", "type": JOINTS, "max_age_s": 0.1},
        "sinks": [{"topic": "/c", "type": "std_msgs/msg/Float64MultiArray"}],
    }
    spec = make_contract(action=action).action
    message = SimpleNamespace(name=["b", "a"], position=[2.0, 1.0])
    np.testing.assert_array_equal(decode_action(spec, JOINTS, message), [1.0, 2.0])
