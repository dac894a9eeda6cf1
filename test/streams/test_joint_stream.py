"""Joints of several drivers on one topic: the newest value per joint, each with its age."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.data_types import ContractError, DecodeError
from vla_ros.messages.forms.joints import MAX_JOINTS, carried_joints
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.messages.samples import header, new
from vla_ros.streams import Assembled, LateSample, ObservationPipeline

JOINTS = "sensor_msgs/msg/JointState"
KEY = "observation.jointstate"
MS = 1_000_000
TICK = 1000 * MS


def state(stamp_ns: int, frame: str = "", field: str = "velocity", **values: float) -> bytes:
    arrays = {name: np.empty(0) for name in ("position", "velocity", "effort")} | {
        field: np.array([*values.values()], float)
    }
    return serialize(new(JOINTS, header(stamp_ns, frame), list(values), *arrays.values()), JOINTS)


def push(pipeline: ObservationPipeline, stamp_ms: int, receive_ms: int | None = None, **values: float) -> None:
    pipeline.push(0, state(stamp_ms * MS, **values), (stamp_ms if receive_ms is None else receive_ms) * MS)


def pipeline_of(make_contract: Any, **changes: Any) -> ObservationPipeline:
    return ObservationPipeline(make_contract(JOINTS, **changes), deserialize)


def values(assembled: Assembled) -> list[float]:
    assert assembled.frame is not None, assembled.missing
    value = assembled.frame.values[KEY]
    assert value.dtype == np.float32
    return [float(v) for v in value]


def reason(assembled: Assembled) -> str:
    assert assembled.frame is None
    (missing,) = assembled.missing
    return str(missing)


def test_each_joint_has_the_newest_value_that_a_message_carried(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 960, a=1, b=2)
    push(pipeline, 970, c=3)
    push(pipeline, 980, b=4, gripper=9)
    push(pipeline, 1001, a=7, b=7, c=7)
    assert values(pipeline.assemble(TICK)) == [1, 4, 3]


def test_drivers_whose_stamps_are_behind_each_other_are_both_heard(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    for stamp in range(900, 1010, 10):
        push(pipeline, stamp, a=stamp, b=stamp)
        push(pipeline, stamp - 4, receive_ms=stamp, c=stamp - 4)  # sampled earlier, received later
    assert values(pipeline.assemble(TICK)) == [1000, 1000, 996]
    assert pipeline.stream_status(TICK)[0].drops == 0


def test_messages_without_the_contract_s_joints_are_no_matter(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 990, a=1, b=2, c=3)
    push(pipeline, 995, finger=0.5)
    push(pipeline, 996)
    assert values(pipeline.assemble(TICK)) == [1, 2, 3]
    assert pipeline.stream_status(TICK)[0].decode_errors == 0


def test_a_joint_that_fell_silent_is_missing_by_name_and_age(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 700, c=3)
    push(pipeline, 990, a=1, b=2)
    assert reason(pipeline.assemble(TICK)) == (
        f"'{KEY}': joint 'c': last carried 0.300 s before (age 0.300 s, limit 0.2 s)"
    )


def test_a_joint_that_no_message_ever_names_is_missing_with_the_nearest_name(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract, joints=["a", "b", "wrist_rol"])
    push(pipeline, 990, a=1, b=2, wrist_roll=3)
    text = reason(pipeline.assemble(TICK))
    assert "joint 'wrist_rol': not among the joints that messages name, a, b, wrist_roll" in text
    assert "Did you mean 'wrist_roll'?" in text


def test_a_joint_without_the_chosen_array_is_missing_for_that(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 990, a=1, b=2)
    pipeline.push(0, state(991 * MS, field="position", c=3.0), 991 * MS)
    assert "joint 'c': named by messages that have no velocity for it" in reason(pipeline.assemble(TICK))


def test_a_joint_that_is_not_finite_is_missing_until_its_next_message(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 980, a=1, b=2)
    push(pipeline, 985, c=np.nan)
    assert "'c' is nan, not a finite number" in reason(pipeline.assemble(TICK))
    push(pipeline, 990, c=4)
    assert values(pipeline.assemble(TICK)) == [1, 2, 4]


def test_a_tick_is_complete_when_every_joint_has_reached_it(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 1000, a=1, b=2)
    push(pipeline, 999, c=3)
    assert not pipeline.complete(TICK, TICK)
    push(pipeline, 1004, c=3)
    assert pipeline.complete(TICK, TICK)


def test_a_message_that_says_nothing_new_for_any_joint_is_a_drop(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 990, a=1, b=2, c=3)
    push(pipeline, 990, a=5)
    push(pipeline, 985, b=5, d=1)
    assert pipeline.stream_status(TICK)[0].drops == 2
    assert values(pipeline.assemble(TICK)) == [1, 2, 3]


def test_one_driver_s_stamps_of_zero_are_named_whatever_the_other_sends(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 0, receive_ms=990, c=3)
    push(pipeline, 990, a=1, b=2)
    assert "header stamps are 0" in reason(pipeline.assemble(TICK))


def test_the_status_tells_the_age_of_each_joint(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 900, a=1, b=2)
    push(pipeline, 980, b=2)
    assert pipeline.stream_status(TICK)[0].parts == (("a", 0.1), ("b", 0.02), ("c", float("inf")))


def test_joints_have_the_contract_s_names_whatever_the_messages_call_them(make_contract: Any) -> None:
    contract = make_contract(JOINTS, joints={"shoulder": "joint_1", "elbow": "joint_2"})
    pipeline = ObservationPipeline(contract, deserialize)
    push(pipeline, 990, joint_2=2, joint_1=1)
    assert values(pipeline.assemble(TICK)) == [1, 2]
    assert contract.features[KEY].names == ("shoulder", "elbow")


@pytest.mark.parametrize(
    ("joints", "error"),
    [
        ({"a": "j", "b": "j"}, r"joints gives two names to joint 'j' of the messages"),
        ({"a": 3}, r"joints.a expected str, got 3"),
        ({}, r"joints must not be empty"),
    ],
)
def test_a_wrong_map_of_joints_is_refused(joints: dict[str, Any], error: str, make_contract: Any) -> None:
    with pytest.raises(ContractError, match=error):
        make_contract(JOINTS, joints=joints)


@settings(max_examples=30)
@given(data=st.data(), method=st.sampled_from(["hold", "nearest", "interpolate"]))
def test_joints_in_messages_of_their_own_give_the_frame_of_one_message(data: Any, method: str) -> None:
    from vla_ros.contract import parse_contract

    spec = {"key": KEY, "topic": "/j", "type": JOINTS, "joints": ["a", "b", "c"], "max_age_s": 0.2}
    record = {"topic": "/r", "type": JOINTS, "max_age_s": 0.1}
    sinks = [{"topic": "/s", "type": "std_msgs/msg/Float64MultiArray"}]
    action = {"representation": "joint_position", "names": ["a"], "units": ["rad"], "record": record, "sinks": sinks}
    top = {"robot_type": "r", "fps": 20, "inputs": [{**spec, "alignment": {"method": method}}], "action": action}
    contract = parse_contract(top, "c.yaml")
    whole, split = ObservationPipeline(contract, deserialize), ObservationPipeline(contract, deserialize)
    stamps = data.draw(st.lists(st.integers(850, 1100), min_size=1, max_size=12, unique=True).map(sorted))
    for stamp in stamps:
        numbers = data.draw(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3))
        joints = dict(zip("abc", numbers, strict=True))
        whole.push(0, state(stamp * MS, field="position", **joints), stamp * MS)
        for name in data.draw(st.permutations("abc")):
            split.push(0, state(stamp * MS, field="position", **{name: joints[name]}), stamp * MS)
    one, other = whole.assemble(TICK), split.assemble(TICK)
    assert [str(m) for m in one.missing] == [str(m) for m in other.missing]
    if one.frame is not None and other.frame is not None:
        assert one.frame.values[KEY].tobytes() == other.frame.values[KEY].tobytes()


@given(
    names=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12), max_size=8),
    frame=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9),
    field=st.sampled_from(["position", "velocity", "effort"]),
    little=st.booleans(),
)
@settings(max_examples=60)
def test_names_are_read_from_the_bytes_as_a_deserialiser_reads_them(
    names: list[str], frame: str, field: str, little: bool
) -> None:
    arrays = [np.zeros(len(names)) if name == field else np.empty(0) for name in ("position", "velocity", "effort")]
    message = new(JOINTS, header(1, frame), names, *arrays)
    raw = bytes(typestore().serialize_cdr(message, JOINTS, little_endian=little))
    assert carried_joints(raw, field) == (tuple(names), bool(names))
    assert carried_joints(raw, "effort" if field != "effort" else "position") == (tuple(names), False)


def test_names_are_read_from_bytes_that_rclpy_wrote() -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    from vla_ros.messages.message_class import message_class

    message = message_class(JOINTS)(name=["a", "long_name", ""], position=[1.0, 2.0, 3.0])
    message.header.frame_id = "base"
    assert carried_joints(serialize_message(message), "position") == (("a", "long_name", ""), True)
    assert carried_joints(serialize_message(message), "effort") == (("a", "long_name", ""), False)


def test_damaged_bytes_are_refused_and_the_next_message_is_read(make_contract: Any) -> None:
    good = state(990 * MS, a=1.0, b=2.0, c=3.0)
    for end in range(len(good)):
        pipeline = pipeline_of(make_contract)
        pipeline.push(0, good[:end], 990 * MS)
        assert pipeline.assemble(TICK).frame is None
        push(pipeline, 995, a=4, b=5, c=6)
        assert values(pipeline.assemble(TICK)) == [4, 5, 6]


def test_a_message_of_more_joints_than_a_robot_has_is_refused_by_their_number() -> None:
    raw = state(1, **{f"joint_{number}": 0.0 for number in range(MAX_JOINTS + 1)})
    with pytest.raises(DecodeError, match=r"names 4097 joints; at most 4096 are read"):
        carried_joints(raw, "velocity")


def test_of_several_drivers_the_late_one_is_named_by_its_first_joint(make_contract: Any) -> None:
    pipeline = pipeline_of(make_contract)
    push(pipeline, 990, a=1, b=2)
    push(pipeline, 990, c=3)
    pipeline.assemble(TICK)
    push(pipeline, 1001, a=1, b=2)
    push(pipeline, 1000, gripper=9)
    push(pipeline, 999, gripper=9, c=3)
    assert pipeline.take_late() == [LateSample(pipeline.specs[0].topic, "gripper", 999 * MS, TICK)]
