import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import AlignmentSpec
from vla_ros.contract.schema import Alignment
from vla_ros.data_types import ConfigError, DecodeError
from vla_ros.resampling import Gap, linear
from vla_ros.streams import LateSample, LateSamples
from vla_ros.streams.frozen import FrozenWatch
from vla_ros.streams.stream import Stream

MS = 1_000_000
TICK = 1000 * MS
POSE = "geometry_msgs/msg/PoseStamped"


def message(stamp_ns: int, value: float = 0.0, size: int = 0) -> bytes:
    return b"\0\1\0\0" + struct.pack("<iId", stamp_ns // 10**9, stamp_ns % 10**9, value) + bytes(size)


def number(raw: bytes, type_name: str) -> float:
    return float(struct.unpack_from("<d", raw, 12)[0])


def make(
    method: Alignment = "hold",
    *,
    deserialize: Callable[[bytes, str], Any] = number,
    decode: Callable[[Any], Any] = lambda value: np.full(2, value),
    blend: Any = linear,
    value_bytes: int = 0,
) -> Stream:
    return Stream(
        key="observation.pose",
        topic="/pose",
        type_name=POSE,
        alignment=AlignmentSpec(method),
        max_age_s=0.2,
        reach_s=0.05,
        deserialize=deserialize,
        decode=decode,
        blend=blend,
        value_bytes=value_bytes,
    )


def pushed(stream: Stream, *stamps_ms: int) -> Stream:
    for stamp in stamps_ms:
        stream.push(message(stamp * MS, float(stamp)), stamp * MS)
    return stream


def failing(reason: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise reason

    return fail


@pytest.mark.parametrize("reason", [ValueError("x"), MemoryError(), ConfigError("no package"), RecursionError("deep")])
@pytest.mark.parametrize("part", ["deserialize", "decode", "blend"])
def test_whatever_a_part_raises_is_a_decode_error_with_topic_and_key(part: str, reason: Exception) -> None:
    stream = pushed(make("interpolate", **{part: failing(reason)}), 990, 1010)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(DecodeError, match=r"^/pose \(observation\.pose\): "):
            stream.value_at(TICK)


def test_what_is_no_array_is_a_decode_error() -> None:
    stream = pushed(make(decode=lambda _: [1.0, 2.0]), 990)
    with pytest.raises(DecodeError, match="cannot be decoded"):
        stream.value_at(TICK)


def test_bytes_of_no_message_are_refused_with_topic_and_key() -> None:
    stream = pushed(make(deserialize=failing(DecodeError("12 bytes do not hold a thing"))), 990)
    with pytest.raises(DecodeError, match=r"^/pose \(observation\.pose\): 12 bytes do not hold a thing$"):
        stream.value_at(TICK)
    assert stream.status(TICK).decode_errors == 1


def test_the_next_message_is_a_value_again() -> None:
    stream = make(decode=lambda value: np.full(2, value) if value < 1000 else failing(ValueError("x"))())
    pushed(stream, 980, 1000)
    with pytest.raises(DecodeError):
        stream.value_at(TICK)
    assert stream.value_at(990 * MS).tolist() == [980, 980]  # type: ignore[union-attr]


def test_an_error_is_told_again_without_its_message_being_kept() -> None:
    class Message:
        kept = 0

        def __init__(self) -> None:
            Message.kept += 1

        def __del__(self) -> None:
            Message.kept -= 1

    def refuse(message: Message) -> Any:
        raise DecodeError("/pose (observation.pose): wrong")

    stream = pushed(make(deserialize=lambda *_: Message(), decode=refuse), 990)
    for _ in range(5):
        with pytest.raises(DecodeError, match="wrong"):
            stream.value_at(TICK)
    assert Message.kept == 0
    assert stream.status(TICK).decode_errors == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ends", [(1.7e308, -1.7e308), (1e39, 1e39), (np.nan, 0.0), (np.inf, np.inf)])
def test_a_value_between_samples_is_finite_in_float32_or_refused(ends: tuple[float, float]) -> None:
    stream = make("interpolate")
    for stamp_ms, value in zip((990, 1010), ends, strict=True):
        stream.push(message(stamp_ms * MS, value), stamp_ms * MS)
    with pytest.raises(DecodeError, match="between two samples is not a finite number in float32"):
        stream.value_at(TICK)
    with pytest.raises(DecodeError, match="between two samples is not a finite number in float32"):
        stream.window_at(TICK, 2, 5 * MS)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "too few to hold a header"),
        (message(TICK)[:9], "too few to hold a header"),
        (b"\0\1\0\0" + struct.pack("<iI", -5, 0) + bytes(8), "at -5 s, before its clock began"),
        (b"\0\1\0\0" + struct.pack("<iI", 1, 2**32 - 1) + bytes(8), "4294967295 ns within its second"),
        (b"\0\7\0\0" + struct.pack("<iI", 1, 0) + bytes(8), "do not begin as plain CDR"),
    ],
)
def test_a_stamp_that_is_none_is_told_at_the_tick(raw: bytes, sentence: str) -> None:
    stream = make()
    stream.push(raw, TICK)
    value = stream.value_at(TICK)
    assert isinstance(value, Gap)
    assert value.reason.startswith("/pose (observation.pose): ")
    assert sentence in value.reason
    assert stream.status(TICK).decode_errors == 1


def test_messages_a_nanosecond_apart_are_forgotten_counted_and_told() -> None:
    stream = make()
    for index in range(20_000):
        stream.push(message(100 * 10**9 + index), 10**18 + index * 50 * MS)
    status = stream.status(10**18)
    assert (status.count, status.drops) == (20_000, 0)
    assert 20_000 - status.overflows <= 101
    value = stream.value_at(10**18)
    assert isinstance(value, Gap)
    assert "more or larger messages come than are kept" in value.reason


def test_large_messages_at_a_high_rate_are_bounded_and_the_newest_is_a_value() -> None:
    stream = make()
    large = message(0, 7.0, 8 * 2**20)
    for index in range(200):
        stamp_ns = TICK + index * MS
        stream.push(message(stamp_ns, 7.0) + large[20:], stamp_ns)
    assert stream.status(TICK).overflows == 200 - 31
    assert stream.value_at(TICK + 199 * MS).tolist() == [7, 7]  # type: ignore[union-attr]


def test_small_messages_of_large_values_count_as_large() -> None:
    stream = make(value_bytes=16 * 2**20)
    pushed(stream, *range(1000, 1100))
    assert stream.status(TICK).overflows == 100 - 16


def test_at_a_sane_rate_nothing_overflows() -> None:
    stream = make()
    for index in range(3000):
        stream.push(message(TICK + index * MS), TICK + index * MS)
    assert stream.status(TICK).overflows == 0


def assemble(stream: Stream, tick_ns: int = TICK) -> Any:
    with stream.assembling(tick_ns):
        return stream.value_at(tick_ns)


def test_a_sample_that_comes_after_its_tick_was_assembled_is_late() -> None:
    stream = pushed(make(), 900)
    assemble(stream)
    pushed(stream, 1000, 1001)
    assert stream.take_late() == [LateSample("/pose", "", TICK, TICK)]
    assert stream.take_late() == []
    assert stream.status(TICK).late == 1


@pytest.mark.parametrize(("method", "late"), [("hold", 0), ("nearest", 1), ("interpolate", 1)])
def test_the_first_sample_after_a_tick_is_late_where_its_value_depends_on_it(method: Alignment, late: int) -> None:
    stream = pushed(make(method), 990)
    assemble(stream)
    pushed(stream, 1010, 1020)
    assert len(stream.take_late()) == late
    assemble(stream, TICK + 5 * MS)
    assert len(pushed(stream, 1300).take_late()) == 0  # further away than max_age_s


def test_a_sample_that_comes_while_its_tick_is_assembled_changes_nothing_at_it_and_is_late() -> None:
    def decode(value: float) -> np.ndarray[Any, Any]:
        pushed(stream, 995)
        return np.full(2, value)

    stream = pushed(make(decode=decode), 990)
    with stream.assembling(TICK):
        assert stream.value_at(TICK)[0] == stream.value_at(TICK)[0] == 990.0
    assert stream.take_late() == [LateSample("/pose", "", 995 * MS, TICK)]
    assert assemble(stream, TICK + MS)[0] == 995.0


def test_nothing_is_late_after_the_samples_were_forgotten_or_the_clock_was_set_back() -> None:
    stream = pushed(make(), 900)
    assemble(stream)
    stream.clear()
    assert pushed(stream, 950).take_late() == []
    stream = pushed(make(), 5000)
    assemble(stream, 5 * TICK)
    assert pushed(stream, 1000).take_late() == []


def test_late_samples_are_kept_back_in_order_until_the_ticks_that_missed_them_are_over() -> None:
    late = [LateSample("/pose", "", 5, 30), LateSample("/pose", "", 7, 20)]
    held: LateSamples[str] = LateSamples(late)
    assert not held.keeps_back("/pose", "", 4, 10, "on time")
    assert held.keeps_back("/pose", "", 5, 10, "late")
    assert not held.keeps_back("/image", "", 5, 10, "of another topic")
    assert held.keeps_back("/pose", "", 7, 10, "behind it")
    assert held.due(20) == held.due(30) == []
    assert held.due(31) == ["late", "behind it"]
    assert not held.keeps_back("/pose", "", 5, 31, "late, and its ticks are over")


def test_stamps_ahead_of_their_arrival_are_refused_where_clocks_are_real_and_told_when_they_are_few() -> None:
    stream = make()
    stream.most_ahead_ns = 100 * MS
    stream.push(message(TICK), TICK - 150 * MS)
    gap = stream.value_at(TICK)
    assert isinstance(gap, Gap)
    assert gap.reason.startswith("/pose (observation.pose): header stamps are 0.150 s ahead of their arrival; set the")
    assert stream.status(TICK).ahead == 1
    stream.push(message(TICK), TICK - 20 * MS)
    assert not isinstance(stream.value_at(TICK), Gap)
    assert "0.020 s ahead of their arrival" in stream.warnings()[0]
    bag = make()
    bag.push(message(TICK), TICK - 10**12)
    assert not isinstance(bag.value_at(TICK), Gap)


def test_content_that_stays_the_same_under_fresh_stamps_is_frozen_since_it_was_first_seen() -> None:
    watch = FrozenWatch()
    image, other = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    for second in range(3):
        watch.seen(second * 1000 * MS, image.copy())
        watch.seen(second * 1000 * MS, image.copy())
    assert watch.frozen_s == 2.0
    watch.seen(2000 * MS, other)  # no fresh stamp: nothing new
    assert watch.frozen_s == 2.0
    watch.seen(3000 * MS, other)
    assert watch.frozen_s == 0.0
    watch.seen(1000 * MS, other)  # a clock that was set back
    assert watch.frozen_s == 0.0
