from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vla_ros.contract import NEVER_TOO_OLD_S, AlignmentSpec, InputSpec, QosSpec, RobotContract, load_contract
from vla_ros.data_types import ContractError, DecodeError
from vla_ros.messages import decode_input
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.messages.samples import make_example_action, make_example_message
from vla_ros.streams import ActionStream, ObservationPipeline

JOINTS, POSE = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped"
IMAGE, IMU = "sensor_msgs/msg/Image", "sensor_msgs/msg/Imu"
ARRAY = "std_msgs/msg/Float64MultiArray"
MS = 1_000_000
TICK = 1000 * MS


def push(pipeline: ObservationPipeline, index: int, *stamps_ms: int, receive_ms: int | None = None) -> None:
    spec = pipeline.specs[index]
    for stamp in stamps_ms:
        raw = serialize(make_example_message(spec, stamp * MS, seed=stamp), spec.type)
        pipeline.push(index, raw, (stamp if receive_ms is None else receive_ms) * MS)


def value(pipeline: ObservationPipeline, index: int, stamp_ms: int) -> np.ndarray:
    """Value that the message pushed with this stamp holds."""
    spec = pipeline.specs[index]
    return decode_input(spec, make_example_message(spec, stamp_ms * MS, seed=stamp_ms))


def test_message_at_the_exact_tick_belongs_to_that_frame(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    push(pipeline, 0, 950, 1000, 1001)
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    assert frame.stamp_ns == TICK
    np.testing.assert_array_equal(frame.values["observation.jointstate"], value(pipeline, 0, 1000))


def test_streams_of_one_key_are_joined_in_the_contract_s_order(make_contract: Any) -> None:
    contract = make_contract(JOINTS, POSE, key="observation.state")
    pipeline = ObservationPipeline(contract, deserialize)
    push(pipeline, 1, 1000)
    push(pipeline, 0, 1000)
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    expected = np.concatenate([value(pipeline, 0, 1000), value(pipeline, 1, 1000)])
    np.testing.assert_array_equal(frame.values["observation.state"], expected)
    assert frame.values["observation.state"].shape == contract.feature("observation.state").shape


def test_half_of_a_joined_key_is_no_value(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS, POSE, key="observation.state"), deserialize)
    push(pipeline, 0, 1000)
    assembled = pipeline.assemble(TICK)
    assert assembled.frame is None
    assert [(m.key, m.topic, m.reason) for m in assembled.missing] == [("observation.state", "/PoseStamped", "silent")]


def test_missing_inputs_name_topic_age_and_limit(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS, POSE, on_missing="hold"), deserialize)
    push(pipeline, 0, 700)
    stale, silent = pipeline.assemble(TICK).missing
    assert (stale.reason, stale.age_s, stale.max_age_s, stale.on_missing) == ("stale", 0.3, 0.2, "hold")
    assert (silent.reason, silent.age_s) == ("silent", float("inf"))
    assert str(stale) == "'observation.jointstate': last sample on /JointState is 0.300 s old (limit 0.2 s)"
    assert str(silent) == "'observation.posestamped': nothing received on /PoseStamped (limit 0.2 s)"


def test_a_tick_is_complete_when_every_stream_has_reached_it(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS, POSE), deserialize)
    push(pipeline, 0, 1000)
    assert not pipeline.complete(TICK, TICK)
    push(pipeline, 1, 999)
    assert not pipeline.complete(TICK, TICK)
    push(pipeline, 1, 1001)
    assert pipeline.complete(TICK, TICK)


def test_a_tick_is_not_waited_for_longer_than_max_wait(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    assert not pipeline.complete(TICK, TICK + 39 * MS)
    assert pipeline.complete(TICK, TICK + 40 * MS)


def test_an_optional_stream_is_waited_for_only_while_it_lives(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS, required=False), deserialize)
    assert pipeline.complete(TICK, TICK)
    push(pipeline, 0, 900)
    assert not pipeline.complete(TICK, TICK)
    assert pipeline.complete(TICK + 200 * MS, TICK + 200 * MS)


def test_an_optional_input_is_left_out_when_missing_and_needed_when_asked_for(make_contract: Any) -> None:
    contract = make_contract(JOINTS, required=False)
    free = ObservationPipeline(contract, deserialize).assemble(TICK)
    assert free.frame is not None
    assert not free.frame.values
    assert [m.needed for m in free.missing] == [False]
    assert ObservationPipeline(contract, deserialize, keys=["observation.jointstate"]).assemble(TICK).frame is None


def test_streams_that_a_policy_does_not_see_are_not_subscribed(make_contract: Any) -> None:
    contract = make_contract(JOINTS, POSE)
    pipeline = ObservationPipeline(contract, deserialize, keys=["observation.posestamped"])
    assert [spec.topic for spec in pipeline.specs] == ["/PoseStamped"]
    with pytest.raises(ContractError, match=r"Did you mean 'observation\.posestamped'"):
        ObservationPipeline(contract, deserialize, keys=["observation.posestampd"])


def test_pushing_never_decodes_and_each_sample_is_decoded_once(make_contract: Any) -> None:
    calls = []

    def counting(raw: bytes, type_name: str) -> Any:
        calls.append(type_name)
        return deserialize(raw, type_name)

    pipeline = ObservationPipeline(make_contract(JOINTS, IMAGE), counting)
    push(pipeline, 0, *range(900, 1000, 2))
    push(pipeline, 1, 960)
    assert not calls
    for tick in (TICK, TICK, TICK + 50 * MS):
        assert pipeline.assemble(tick).frame is not None
    assert sorted(calls) == [IMAGE, JOINTS]


def test_a_message_that_cannot_be_decoded_is_missing_for_that_reason(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    message = make_example_message(pipeline.specs[0], 990 * MS)
    message.velocity = message.velocity[:2]
    pipeline.push(0, serialize(message, JOINTS), TICK)
    for _ in range(2):
        (missing,) = pipeline.assemble(TICK).missing
        assert "names 4 joints but has 2 velocity values" in missing.reason
        assert missing.age_s == 0.01
    assert pipeline.stream_status(TICK)[0].decode_errors == 1
    push(pipeline, 0, 995)
    assert pipeline.assemble(TICK).frame is not None


def test_samples_without_a_stamp_are_explained(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    push(pipeline, 0, 0, receive_ms=990)
    (missing,) = pipeline.assemble(TICK).missing
    assert "header stamps are 0" in missing.reason
    assert pipeline.stream_status(TICK)[0].unstamped == 1


def test_bytes_too_short_for_a_stamp_are_explained(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    pipeline.push(0, b"\0\1\0\0", TICK)
    (missing,) = pipeline.assemble(TICK).missing
    assert "4 bytes are too few" in missing.reason


def test_a_stream_whose_stamps_stand_still_is_explained(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    push(pipeline, 0, 500, 500, 499)
    (missing,) = pipeline.assemble(TICK).missing
    assert "stamps do not advance" in missing.reason
    assert pipeline.stream_status(TICK)[0].drops == 2


def test_messages_without_header_live_on_receive_time(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(ARRAY), deserialize)
    push(pipeline, 0, 1, receive_ms=990)
    push(pipeline, 0, 2, receive_ms=1010)
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    np.testing.assert_array_equal(frame.values["observation.float64multiarray"], value(pipeline, 0, 1))


def test_a_window_of_samples_ends_at_the_tick(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(IMU), deserialize)
    push(pipeline, 0, 970, 980, 990, 1000, 1010)
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    got = frame.values["observation.imu.wrist"]
    np.testing.assert_array_equal(got, np.stack([value(pipeline, 0, t) for t in (980, 990, 1000)]))
    assert got.dtype == np.float32


def test_an_interpolated_orientation_stays_a_rotation(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(POSE, alignment={"method": "interpolate"}), deserialize)
    push(pipeline, 0, 990, 1020)
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    got = frame.values["observation.posestamped"]
    assert np.linalg.norm(got[3:]) == pytest.approx(1.0, abs=1e-6)
    before, after = value(pipeline, 0, 990), value(pipeline, 0, 1020)
    np.testing.assert_allclose(got[:3], before[:3] + (after[:3] - before[:3]) / 3, rtol=1e-5)


def test_part_of_a_quaternion_is_not_interpolated(make_contract: Any) -> None:
    fields = ["pose.orientation.x", "pose.orientation.w"]
    contract = make_contract(POSE, alignment={"method": "interpolate"}, fields=fields)
    with pytest.raises(ContractError, match=r"to interpolate pose\.orientation, fields must hold"):
        ObservationPipeline(contract, deserialize)


def test_clear_forgets_samples_and_keeps_counters(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    push(pipeline, 0, 980, 990)
    pipeline.clear()
    assert pipeline.assemble(TICK).frame is None
    assert pipeline.stream_status(TICK)[0].count == 2


def test_status_reports_rate_and_age(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    assert pipeline.stream_status(TICK)[0].age_s == float("inf")
    push(pipeline, 0, *range(500, 1001, 10))
    status = pipeline.stream_status(TICK)[0]
    assert (status.count, status.age_s) == (51, 0.0)
    assert status.rate_hz == pytest.approx(100)
    assert pipeline.stream_status(TICK + 5000 * MS)[0].rate_hz == pytest.approx(0.2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(900, 1100)), max_size=40))
def test_a_complete_frame_does_not_change_whatever_comes_later(
    make_contract: Any, arrivals: list[tuple[int, int]]
) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS, POSE), deserialize)
    decided: dict[str, np.ndarray] | None = None
    for index, stamp in arrivals:
        push(pipeline, index, stamp)
        if decided is None and pipeline.complete(TICK, TICK):
            frame = pipeline.assemble(TICK).frame
            decided = {} if frame is None else dict(frame.values)
    if decided is not None:
        frame = pipeline.assemble(TICK).frame
        after = {} if frame is None else frame.values
        assert after.keys() == decided.keys()
        for key, expected in decided.items():
            np.testing.assert_array_equal(after[key], expected)


def action_stream(contract: RobotContract, *stamps_ms: int) -> ActionStream:
    stream = ActionStream(contract, deserialize)
    for stamp in stamps_ms:
        raw = serialize(make_example_action(contract.action, stamp * MS, seed=stamp), contract.action.record.type)
        stream.push(raw, stamp * MS)
    return stream


def test_the_action_of_a_tick_is_the_command_that_took_effect_last(make_contract: Any) -> None:
    contract = make_contract()
    stream = action_stream(contract, 950, 1000, 1050)
    sent = make_example_action(contract.action, TICK, seed=1000)
    action = stream.value_at(TICK)
    assert action is not None
    assert action[0] == sent.linear.x
    assert stream.complete(1050 * MS)
    assert not stream.complete(1051 * MS)


def test_a_stale_action_is_none_and_a_wrong_one_an_error(make_contract: Any) -> None:
    contract = make_contract()
    stream = action_stream(contract, 850)
    assert stream.value_at(TICK) is None
    wrong = make_example_action(contract.action, 990 * MS)
    wrong.representation = 2
    stream.push(serialize(wrong, contract.action.record.type), 990 * MS)
    with pytest.raises(DecodeError, match="is a pose"):
        stream.value_at(TICK)


def test_the_shipped_contract_makes_whole_frames() -> None:
    contract = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
    pipeline = ObservationPipeline(contract, deserialize)
    for index in range(len(pipeline.specs)):
        push(pipeline, index, 950, 1000)
    frame = pipeline.assemble(TICK, "push").frame
    assert frame is not None
    assert frame.instruction == "push"
    features = {key: spec for key, spec in contract.features.items() if key != "action"}
    assert {key: (v.shape, str(v.dtype)) for key, v in frame.values.items()} == {
        key: (spec.shape, spec.dtype) for key, spec in features.items()
    }


def goal_pipeline(make_contract: Any, **options: Any) -> ObservationPipeline:
    contract = make_contract(IMAGE, POSE)
    goal = InputSpec(
        key="goal.image",
        topic="/goal",
        type=IMAGE,
        qos=QosSpec("reliable", "transient_local", 1),
        alignment=AlignmentSpec("latch", "receive"),
        max_age_s=NEVER_TOO_OLD_S,
        image=contract.inputs[0].image,
        camera="observation.images.front",
    )
    contract = replace(contract, goals=(*contract.goals, goal))
    pipeline = ObservationPipeline(contract, deserialize, ["observation.posestamped", "goal.image"], **options)
    push(pipeline, 0, 1000)
    return pipeline


def picture(pipeline: ObservationPipeline, seed: int) -> tuple[bytes, np.ndarray]:
    spec = pipeline.latched("goal.image").spec
    message = make_example_message(spec, 0, seed=seed)
    return serialize(message, IMAGE), decode_input(spec, message)


def test_without_its_goal_there_is_no_frame_and_the_sentence_names_the_topic(make_contract: Any) -> None:
    pipeline = goal_pipeline(make_contract)
    assembled = pipeline.assemble(TICK)
    assert assembled.frame is None
    assert [str(item) for item in assembled.missing] == ["'goal.image': nothing received on /goal"]
    assert [spec.key for spec in pipeline.specs] == ["observation.posestamped", "goal.image"]


def test_a_goal_is_in_every_frame_until_the_next_and_outlives_episodes(make_contract: Any) -> None:
    pipeline = goal_pipeline(make_contract)
    for seed in (1, 2):
        raw, expected = picture(pipeline, seed)
        pipeline.push(1, raw, TICK - 10 + seed)
        frame = pipeline.assemble(TICK).frame
        assert frame is not None
        np.testing.assert_array_equal(frame.values["goal.image"], expected)
    pipeline.clear()
    push(pipeline, 0, 5000)
    later = pipeline.assemble(5000 * MS).frame
    assert later is not None
    np.testing.assert_array_equal(later.values["goal.image"], expected)


def test_an_optional_goal_is_left_out_until_there_is_one(make_contract: Any) -> None:
    pipeline = goal_pipeline(make_contract, optional=["goal.image"])
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    assert "goal.image" not in frame.values
    pipeline.push(1, picture(pipeline, 1)[0], TICK)
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    assert "goal.image" in frame.values


def test_a_goal_that_is_no_picture_takes_the_last_one_away(make_contract: Any) -> None:
    pipeline = goal_pipeline(make_contract)
    raw = picture(pipeline, 1)[0]
    pipeline.push(1, raw, TICK - 1)
    with pytest.raises(DecodeError):
        pipeline.push(1, raw[:40], TICK)
    assembled = pipeline.assemble(TICK)
    assert assembled.frame is None
    assert str(assembled.missing[0]).startswith("'goal.image': ")
    assert "nothing received" not in str(assembled.missing[0])


def test_a_goal_belongs_to_the_ticks_after_it_was_received(make_contract: Any) -> None:
    pipeline = goal_pipeline(make_contract)
    (first, before), (second, after) = picture(pipeline, 1), picture(pipeline, 2)
    pipeline.push(1, first, TICK - 5)
    pipeline.push(1, second, TICK + 5)
    push(pipeline, 0, 1010)
    frames = [pipeline.assemble(stamp).frame for stamp in (TICK, TICK + 10 * MS)]
    for frame, expected in zip(frames, (before, after), strict=True):
        assert frame is not None
        np.testing.assert_array_equal(frame.values["goal.image"], expected)


def test_the_instruction_of_a_frame_is_the_one_that_held_at_its_tick(make_contract: Any) -> None:
    contract = make_contract(POSE)
    pipeline = ObservationPipeline(contract, deserialize, ["observation.posestamped", "task"])
    push(pipeline, 0, 1000)
    text = typestore().types["std_msgs/msg/String"]
    pipeline.push(1, serialize(text("lift"), "std_msgs/msg/String"), TICK - 1)
    pipeline.push(1, serialize(text("lower"), "std_msgs/msg/String"), TICK + 1)
    frame = pipeline.assemble(TICK).frame
    assert frame is not None
    assert frame.instruction == "lift"
    with pytest.raises(DecodeError, match="at most 4096 characters"):
        pipeline.push(1, serialize(text("x" * 5000), "std_msgs/msg/String"), TICK + 2)
    assert pipeline.latched("task").newest == "lower"


def free_running(pipeline: ObservationPipeline, index: int, delay_ms: int, upto_ms: int, n: int = 20) -> None:
    """Messages every 30 ms, the last stamped at `upto_ms`, each `delay_ms` on its way."""
    for k in range(n, -1, -1):
        stamp_ms = upto_ms - 30 * k
        push(pipeline, index, stamp_ms, receive_ms=stamp_ms + delay_ms)


def test_a_stream_is_waited_for_as_long_as_its_messages_take_and_not_for_its_next_sample(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    free_running(pipeline, 0, 8, 991)  # the next comes 21 + 8 ms after the tick
    assert not pipeline.complete(TICK, TICK + 8 * MS, by_delay=True)
    assert pipeline.complete(TICK, TICK + 10 * MS, by_delay=True)
    assert not pipeline.complete(TICK, TICK + 39 * MS)
    (status,) = [status for status in pipeline.stream_status(TICK) if status.count]
    assert (status.delay_s, status.waits_s) == (0.008, 0.009)


def test_the_longest_of_the_last_delays_is_waited_for_up_to_max_wait(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    free_running(pipeline, 0, 8, 961)
    push(pipeline, 0, 991, receive_ms=991 + 25)
    assert not pipeline.complete(TICK, TICK + 25 * MS, by_delay=True)
    assert pipeline.complete(TICK, TICK + 26 * MS, by_delay=True)
    for k in range(1, 65):  # and no longer when it was one of many
        push(pipeline, 0, 991 + k, receive_ms=999 + k)
    assert pipeline.complete(2 * TICK, 2 * TICK + 9 * MS, by_delay=True)
    slow = ObservationPipeline(make_contract(JOINTS), deserialize)
    free_running(slow, 0, 300, 991)
    assert not slow.complete(TICK, TICK + 39 * MS, by_delay=True)
    assert slow.complete(TICK, TICK + 40 * MS, by_delay=True)


def test_without_enough_messages_the_next_sample_is_waited_for(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS), deserialize)
    free_running(pipeline, 0, 8, 991, n=10)
    assert not pipeline.complete(TICK, TICK + 39 * MS, by_delay=True)
    free_running(pipeline, 0, 8, 1600)
    assert pipeline.complete(1610 * MS, 1620 * MS, by_delay=True)
    pipeline.clear()
    assert not pipeline.complete(1610 * MS, 1620 * MS, by_delay=True)


def test_an_interpolated_stream_is_waited_for_until_its_next_sample(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(JOINTS, alignment={"method": "interpolate"}), deserialize)
    free_running(pipeline, 0, 8, 991)
    assert not pipeline.complete(TICK, TICK + 39 * MS, by_delay=True)
    push(pipeline, 0, 1021, receive_ms=1029)
    assert pipeline.complete(TICK, TICK, by_delay=True)


@pytest.mark.parametrize("reaction", ["warn", "stop"])
def test_a_camera_that_hangs_is_told_and_missing_where_the_contract_says_so(make_contract: Any, reaction: str) -> None:
    pipeline = ObservationPipeline(make_contract(IMAGE, on_frozen=reaction), deserialize)
    spec = pipeline.specs[0]
    assert spec.max_frozen_s == 1.0
    for tick_ms in range(1000, 2201, 100):
        same = make_example_message(spec, tick_ms * MS, seed=3)
        pipeline.push(0, serialize(same, spec.type), tick_ms * MS)
        assembled = pipeline.assemble(tick_ms * MS)
        assert (assembled.frame is None) == (reaction == "stop" and tick_ms > 2000)
    ((topic, sentence),) = pipeline.warnings()
    assert topic == "/Image"
    assert "the same content under fresh stamps for 1.2 s (max_frozen_s 1)" in sentence
    if assembled.missing:
        assert "the same content under fresh stamps" in str(assembled.missing[0])
    push(pipeline, 0, 2300)
    assert pipeline.assemble(2300 * MS).frame is not None
    assert pipeline.warnings() == []


def test_images_of_another_size_are_told_with_both(make_contract: Any) -> None:
    pipeline = ObservationPipeline(make_contract(IMAGE), deserialize)
    spec = pipeline.specs[0]
    types = typestore().types
    for k, (height, width) in enumerate(((48, 64), (48, 64), (96, 96))):
        image = make_example_message(spec, (k + 1) * MS, seed=k)
        sized = types[IMAGE](image.header, height, width, "rgb8", 0, 3 * width, np.zeros(3 * height * width, np.uint8))
        pipeline.push(0, serialize(sized, IMAGE), (k + 1) * MS)
        pipeline.assemble((k + 1) * MS)
    ((_, sentence),) = pipeline.warnings()
    assert "have changed their size and their aspect ratio, from 48x64 to 96x96 (height x width)" in sentence
