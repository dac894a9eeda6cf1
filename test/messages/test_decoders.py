from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import types
from vla_ros.contract.types import INPUT_TYPES
from vla_ros.data_types import DecodeError
from vla_ros.messages import decode_action, decode_input
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.messages.samples import make_example_action, make_example_message
from vla_ros.messages.stamps import header_stamp_ns

JOINTS = "sensor_msgs/msg/JointState"
STAMP_NS = 12_345_678_901


def decode_joints_by(decode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = INPUT_TYPES[JOINTS]
    assert row.as_input is not None
    monkeypatch.setitem(types._types, JOINTS, replace(row, as_input=replace(row.as_input, decode=decode)))


TEXT = "std_msgs/msg/String"
NUMBERS = [name for name in INPUT_TYPES if name != TEXT]
VECTORS = [name for name in NUMBERS if INPUT_TYPES[name].form not in ("image", "points", "transform")]


def test_an_instruction_decodes_to_its_text_from_bag_and_live(make_contract: Any) -> None:
    from vla_ros.messages import rclpy_deserialize

    spec = make_contract(JOINTS).instruction
    message = make_example_message(spec, STAMP_NS)
    raw = serialize(message, TEXT)
    for decoded in (message, deserialize(raw, TEXT), rclpy_deserialize.deserialize(raw, TEXT)):
        value = decode_input(spec, decoded)
        assert (value.shape, str(value)) == ((), message.data)
    with pytest.raises(DecodeError, match=r"/instruction \(task\): an instruction has at most 4096 characters"):
        decode_input(spec, SimpleNamespace(data="x" * 5000))


@pytest.mark.parametrize("type_name", NUMBERS)
def test_a_sample_decodes_to_the_contract_s_form(type_name: str, make_contract: Any) -> None:
    spec = make_contract(type_name).inputs[0]
    value = decode_input(spec, make_example_message(spec, STAMP_NS))
    expected = spec.shape[1:] if spec.window is not None else spec.shape
    assert value.shape == expected
    assert value.dtype == (np.uint8 if spec.image is not None else np.float32)


@pytest.mark.parametrize("type_name", NUMBERS)
def test_bag_bytes_and_live_messages_decode_identically(type_name: str, make_contract: Any) -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    from vla_ros.messages import rclpy_deserialize

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("type_name", VECTORS)
@pytest.mark.parametrize("bad", [1e39, -1e308, np.inf, np.nan])
def test_numbers_that_float32_cannot_hold_are_refused(bad: float, type_name: str, make_contract: Any) -> None:
    spec = make_contract(type_name).inputs[0]
    message = make_example_message(spec, STAMP_NS)
    if hasattr(message, "data"):
        message.data = bad if isinstance(message.data, float) else np.array([0.0, bad])
    elif hasattr(message, "velocity"):
        message.velocity = np.array([0.0, bad, 0.0, 0.0])
    else:
        *path, last = spec.fields[0].split(".")
        place = message
        for step in path:
            place = getattr(place, step)
        setattr(place, last, bad)
    with pytest.raises(DecodeError, match="not a finite number in float32"):
        decode_input(spec, message)


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_refused_as_any_other(make_contract: Any) -> None:
    spec = make_contract("std_msgs/msg/Float32MultiArray").inputs[0]
    data = np.array([0x7F800001, 0], np.uint32).view(np.float32)
    with pytest.raises(DecodeError, match="'p' is nan, not a finite number in float32"):
        decode_input(spec, SimpleNamespace(data=data))


def test_a_joint_named_twice_is_refused(make_contract: Any) -> None:
    spec = make_contract(JOINTS).inputs[0]
    message = SimpleNamespace(name=["a", "b", "a", "c"], velocity=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(DecodeError, match="names joint 'a' more than once"):
        decode_input(spec, message)


@pytest.mark.parametrize("lengths", [(2, 3, 0), (3, 4, 3), (0, 3, 1), (0, 2, 0)])
def test_joint_arrays_of_different_lengths_are_refused(lengths: tuple[int, int, int], make_contract: Any) -> None:
    spec = make_contract(JOINTS).inputs[0]
    position, velocity, effort = (np.zeros(length) for length in lengths)
    message = SimpleNamespace(name=["a", "b", "c"], position=position, velocity=velocity, effort=effort)
    with pytest.raises(DecodeError, match=r"names 3 joints but has \d (position|velocity|effort) values"):
        decode_input(spec, message)


def test_many_joint_names_are_counted_not_told(make_contract: Any) -> None:
    spec = make_contract(JOINTS).inputs[0]
    names = [f"a_{k}" for k in range(200_000)]
    with pytest.raises(DecodeError, match="and 199990 more") as caught:
        decode_input(spec, SimpleNamespace(name=names, velocity=np.zeros(len(names))))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "quaternion", [(0, 0, 0, 0), (0, 0, 0, 2), (1e200, 0, 0, 0), (0, np.nan, 0, 1), (5e-324, 0, 0, 0)]
)
def test_a_quaternion_that_is_no_rotation_is_refused(quaternion: tuple[float, ...], make_contract: Any) -> None:
    spec = make_contract("geometry_msgs/msg/PoseStamped").inputs[0]
    message = make_example_message(spec, STAMP_NS)
    message.pose.orientation = SimpleNamespace(**dict(zip("xyzw", quaternion, strict=True)))
    with pytest.raises(DecodeError, match=r"pose\.orientation is a quaternion of length .* stands for no rotation"):
        decode_input(spec, message)


def test_an_orientation_that_is_not_read_may_be_anything(make_contract: Any) -> None:
    spec = make_contract("geometry_msgs/msg/PoseStamped", fields=["pose.position.x"]).inputs[0]
    message = make_example_message(spec, STAMP_NS)
    message.pose.orientation = SimpleNamespace(x=0, y=0, z=0, w=0)
    assert decode_input(spec, message).shape == (1,)


@pytest.mark.parametrize(
    ("sizes", "offset", "allowed"), [([], 0, True), ([2], 0, True), ([1, 2], 0, True), ([3], 0, False), ([], 1, False)]
)
def test_a_layout_agrees_with_the_numbers(sizes: list[int], offset: int, allowed: bool, make_contract: Any) -> None:
    spec = make_contract("std_msgs/msg/Float64MultiArray").inputs[0]
    layout = SimpleNamespace(dim=[SimpleNamespace(size=size) for size in sizes], data_offset=offset)
    message = SimpleNamespace(layout=layout, data=[1.0, 2.0])
    if allowed:
        assert decode_input(spec, message).shape == (2,)
    else:
        with pytest.raises(DecodeError, match="the layout says"):
            decode_input(spec, message)


@pytest.mark.parametrize("failure", [ValueError("a\nb"), MemoryError(), ZeroDivisionError("x" * 10_000), KeyError("k")])
def test_whatever_goes_wrong_in_a_decoder_is_a_decode_error_and_logged_once(
    failure: Exception, make_contract: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise failure

    spec = replace(make_contract(JOINTS).inputs[0], topic=f"/{type(failure).__name__}")
    decode_joints_by(fail, monkeypatch)
    for _ in range(3):
        with pytest.raises(
            DecodeError, match=rf"^{spec.topic} .*cannot be decoded \({type(failure).__name__}"
        ) as caught:
            decode_input(spec, SimpleNamespace())
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
    (record,) = caplog.records
    assert record.exc_info is not None


def test_a_value_of_another_form_than_the_contract_s_is_a_decode_error(
    make_contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_contract(JOINTS).inputs[0]
    for wrong in (np.zeros(3), np.zeros((2, 3), np.float32), [0.0, 0.0, 0.0]):
        decode_joints_by(lambda *_, value=wrong: value, monkeypatch)
        with pytest.raises(DecodeError, match="cannot be decoded"):
            decode_input(spec, SimpleNamespace())


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


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\1\0\0",
        b"\0\1\0\0" + b"\xff" * 8,
        b"\0\1\0\0" + (1).to_bytes(4, "little") + (10**9).to_bytes(4, "little"),
        b"\0\1\0\0" + (-1).to_bytes(4, "little", signed=True) + bytes(4),
        b"\0\0\0\0" + (-(2**31)).to_bytes(4, "big", signed=True) + bytes(4),
        b"\0\3\0\0" + bytes(8),
        b"\1\1\0\0" + bytes(8),
    ],
)
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
    from vla_ros.messages import rclpy_deserialize

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [1e39, -1e300, np.inf, np.nan])
def test_an_action_that_float32_cannot_hold_is_refused(bad: float, make_contract: Any) -> None:
    contract = make_contract()
    message = action_message(contract)
    message.linear.y = bad
    with pytest.raises(DecodeError, match=r"'dy' is .*, not a finite number in float32"):
        decode_action(contract.action, contract.action.record.type, message)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rotation", ["quaternion", "rot6d"])
@pytest.mark.parametrize("number", [0.0, 1e200, np.nan])
def test_an_action_whose_rotation_is_none_is_refused(number: float, rotation: str, make_contract: Any) -> None:
    names = ["x", "y", "z", *(f"r{k}" for k in range(4 if rotation == "quaternion" else 6))]
    array = "std_msgs/msg/Float64MultiArray"
    action = {
        "representation": "pose",
        "rotation": rotation,
        "names": names,
        "units": ["m"] * len(names),
        "gripper": None,
        "record": {"topic": "/a", "type": array, "max_age_s": 0.1, "alignment": {"timeline": "receive"}},
        "sinks": [{"topic": "/c", "type": array}],
    }
    spec = make_contract(action=action).action
    with pytest.raises(DecodeError, match=r"no rotation|not a finite number"):
        decode_action(spec, array, SimpleNamespace(data=[0.0, 0.0, 0.0] + [number] * (len(names) - 3)))


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
