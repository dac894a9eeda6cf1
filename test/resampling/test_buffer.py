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
    wrong = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            sample = buffer.before(10**9)
            if sample is not None and sample.payload != sample.stamp_ns:
                wrong.append(sample)

    reader = threading.Thread(target=read)
    reader.start()
    for stamp in range(20_000):
        buffer.push(stamp, stamp)
    done.set()
    reader.join()
    assert not wrong
