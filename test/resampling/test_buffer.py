import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.resampling import SampleBuffer

STAMPS = st.lists(st.integers(0, 10_000), max_size=60)


def filled(stamps: list[int], span_ns: int = 10**6) -> tuple[SampleBuffer, list[int]]:
    buffer = SampleBuffer(span_ns)
    return buffer, [stamp for stamp in stamps if buffer.push(stamp, f"sample {stamp}")]


def test_a_span_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="span_ns must be positive"):
        SampleBuffer(0)


@given(STAMPS)
def test_kept_stamps_rise_strictly(stamps: list[int]) -> None:
    _, taken = filled(stamps)
    assert taken == sorted(set(taken))


@given(STAMPS, st.integers(-10, 10_010))
def test_before_and_after_are_the_neighbours_of_the_tick(stamps: list[int], tick: int) -> None:
    buffer, taken = filled(stamps)
    before, after = buffer.before(tick), buffer.after(tick)
    assert (None if before is None else before.stamp_ns) == max((s for s in taken if s <= tick), default=None)
    assert (None if after is None else after.stamp_ns) == min((s for s in taken if s >= tick), default=None)


@given(STAMPS, st.integers(0, 10_000))
def test_what_comes_after_the_watermark_does_not_change_the_value(stamps: list[int], tick: int) -> None:
    buffer = SampleBuffer(10**6)
    decided = None
    for stamp in stamps:
        buffer.push(stamp, stamp)
        if decided is None and buffer.newest_ns is not None and buffer.newest_ns >= tick:
            decided = (buffer.before(tick),)
    if decided is not None:
        assert buffer.before(tick) == decided[0]


@given(STAMPS, st.integers(1, 500))
def test_nothing_older_than_the_span_is_kept(stamps: list[int], span_ns: int) -> None:
    buffer, _ = filled(stamps, span_ns)
    oldest, newest = buffer.after(-1), buffer.newest_ns
    if oldest is not None and newest is not None:
        assert newest - oldest.stamp_ns <= span_ns


def test_a_sample_at_the_exact_tick_is_both_before_and_after() -> None:
    buffer, _ = filled([10, 20, 30])
    assert buffer.before(20) == buffer.after(20) == (20, "sample 20")


def test_the_first_of_two_samples_with_one_stamp_is_kept() -> None:
    buffer = SampleBuffer(100)
    assert buffer.push(5, "first")
    assert not buffer.push(5, "second")
    sample = buffer.before(5)
    assert sample is not None
    assert sample.payload == "first"


def test_a_step_back_of_more_than_the_span_starts_anew() -> None:
    buffer = SampleBuffer(100)
    buffer.push(1000, "wrong clock")
    assert not buffer.push(900, "late")
    assert buffer.push(899, "after a reset")
    assert buffer.newest_ns == 899
    assert len(buffer) == 1


def test_clear_forgets() -> None:
    buffer, _ = filled([1, 2])
    buffer.clear()
    assert buffer.newest_ns is None
    assert buffer.before(5) is None


def test_readers_never_see_a_half_written_sample() -> None:
    buffer = SampleBuffer(50)
    buffer.push(0, 0)
    seen = []

    def read() -> None:
        # as often as there is something written, not until it ends: on one core, a reader that never stops would keep
        # the writer from its turn
        for _ in range(20_000):
            sample = buffer.before(10**9)
            seen.append(sample is not None and sample.payload == sample.stamp_ns)

    reader = threading.Thread(target=read)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # s
    try:
        reader.start()
        for stamp in range(1, 20_000):
            buffer.push(stamp, stamp)
        reader.join()
    finally:
        sys.setswitchinterval(interval)
    assert all(seen)


SECOND = 10**9
PUSHES = st.lists(
    st.tuples(st.integers(0, 3 * SECOND), st.integers(0, 10 * SECOND), st.integers(0, 2**27)), min_size=1, max_size=80
)


def test_stamps_a_nanosecond_apart_are_bounded_by_number() -> None:
    buffer = SampleBuffer(SECOND)
    for index in range(10_000):
        buffer.push(index, index)
    assert len(buffer) == buffer.max_samples == 2001
    assert buffer.overflows == 10_000 - 2001
    assert buffer.overflowing
    assert buffer.before(10**9) == (9999, 9999)


def test_stamps_a_nanosecond_apart_are_bounded_by_when_they_arrived() -> None:
    buffer = SampleBuffer(SECOND)
    for index in range(1000):
        buffer.push(index, index, receive_ns=index * SECOND // 20)
    assert len(buffer) == 4 * 20 + 1
    assert buffer.overflows == 1000 - 81


def test_large_samples_are_bounded_by_bytes() -> None:
    buffer = SampleBuffer(SECOND)
    for index in range(1000):
        buffer.push(index * 1_000_000, index, n_bytes=8 * 2**20)
    assert len(buffer) == 32
    assert buffer.overflows == 1000 - 32


def test_a_flood_keeps_its_newest_samples() -> None:
    buffer = SampleBuffer(SECOND)
    for index in range(50_000):
        buffer.push(index * 100_000, index, receive_ns=index * 100_000, n_bytes=320)
    assert len(buffer) == 2001
    oldest, newest_ns = buffer.after(0), buffer.newest_ns
    assert oldest is not None
    assert newest_ns is not None
    assert newest_ns - oldest.stamp_ns == 2000 * 100_000


def test_the_two_newest_samples_are_kept_whatever_their_size() -> None:
    buffer = SampleBuffer(SECOND)
    for index in range(5):
        buffer.push(index, index, n_bytes=2**40, receive_ns=index * 100 * SECOND)
    assert [buffer.before(3), buffer.after(4)] == [(3, 3), (4, 4)]
    assert len(buffer) == 2


def test_stamps_that_alternate_keep_one_side_only() -> None:
    buffer = SampleBuffer(SECOND)
    for index in range(1000):
        buffer.push(index + (100 * SECOND if index % 2 else 0), index)
        assert len(buffer) == 1


@pytest.mark.parametrize(
    ("rate_hz", "n_bytes"), [(30, 6_220_800), (60, 900_000), (1000, 400), (2000, 400), (10, 640_000)]
)
def test_at_sane_rates_nothing_is_forgotten_within_the_span(rate_hz: int, n_bytes: int) -> None:
    buffer = SampleBuffer(SECOND + SECOND // 4)
    for index in range(3 * rate_hz):
        stamp_ns = index * SECOND // rate_hz
        late_ns = 200_000_000 * (index // rate_hz % 2)  # a network that stalls
        buffer.push(stamp_ns, index, receive_ns=stamp_ns + late_ns, n_bytes=n_bytes)
    assert buffer.overflows == 0
    assert not buffer.overflowing


def test_a_long_span_is_bounded_too() -> None:
    assert SampleBuffer(3600 * SECOND).max_samples == 65_536


def test_bytes_are_given_back_with_the_samples() -> None:
    buffer = SampleBuffer(SECOND)
    for lap in range(20):
        for index in range(3):
            buffer.push(lap * 10 * SECOND + index, index, n_bytes=80 * 2**20)
        assert len(buffer) == 3
    buffer.discard_before(190 * SECOND + 2)
    assert buffer._bytes == 80 * 2**20
    buffer.clear()
    assert buffer._bytes == 0


@given(PUSHES)
def test_what_is_kept_depends_on_what_was_pushed_alone(pushes: list[tuple[int, int, int]]) -> None:
    live, replayed = SampleBuffer(SECOND), SampleBuffer(SECOND)
    for stamp_ns, receive_ns, n_bytes in pushes:
        live.push(stamp_ns, stamp_ns, receive_ns, n_bytes)
        live.before(stamp_ns // 2)  # reading changes nothing
    for stamp_ns, receive_ns, n_bytes in pushes:
        replayed.push(stamp_ns, stamp_ns, receive_ns, n_bytes)
    assert (live._stamps, live._kept, live.overflows) == (replayed._stamps, replayed._kept, replayed.overflows)
    assert live._bytes == sum(sample.n_bytes for sample in live._kept)
    assert len(live) <= 2 or live._bytes <= live.max_bytes
