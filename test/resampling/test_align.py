import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.resampling import Gap, SampleBuffer, Stamped, hold, interpolate, nearest, window


def buffer_of(*stamps: int) -> SampleBuffer:
    buffer = SampleBuffer(10**9)
    for stamp in stamps:
        buffer.push(stamp, np.array([float(stamp), 2.0 * stamp]))
    return buffer


def value_of(payload: np.ndarray) -> np.ndarray:
    return payload


def test_message_at_the_exact_tick_belongs_to_that_tick() -> None:
    sample = hold(buffer_of(10, 20), 20, 100)
    assert isinstance(sample, Stamped)
    assert sample.stamp_ns == 20


def test_message_after_the_tick_is_not_held_at_it() -> None:
    sample = hold(buffer_of(10, 21), 20, 100)
    assert isinstance(sample, Stamped)
    assert sample.stamp_ns == 10


def test_a_sample_as_old_as_the_limit_counts_and_an_older_one_does_not() -> None:
    assert isinstance(hold(buffer_of(10), 110, 100), Stamped)
    assert hold(buffer_of(10), 111, 100) == Gap("stale", 101)


def test_an_empty_stream_is_silent() -> None:
    empty = SampleBuffer(10)
    assert hold(empty, 5, 5) == nearest(empty, 5, 5) == interpolate(empty, 5, 5, value_of) == Gap("silent", None)
    assert window(empty, 5, 5, value_of, samples=2, period_ns=1) == Gap("silent", None)


def test_nearest_takes_the_closer_side_and_the_earlier_of_equals() -> None:
    for tick, expected in ((14, 10), (15, 10), (16, 20)):
        sample = nearest(buffer_of(10, 20), tick, 100)
        assert isinstance(sample, Stamped)
        assert sample.stamp_ns == expected


def test_nearest_says_how_old_a_stale_stream_is() -> None:
    assert nearest(buffer_of(10), 200, 100) == Gap("stale", 190)
    assert nearest(buffer_of(500), 200, 100) == Gap("silent", None)


@given(st.integers(1, 999))
def test_interpolation_is_linear_in_time(tick: int) -> None:
    value = interpolate(buffer_of(0, 1000), tick, 10_000, value_of)
    assert not isinstance(value, Gap)
    np.testing.assert_allclose(value, [tick, 2 * tick], rtol=1e-12)


def test_interpolation_needs_a_sample_after_the_tick() -> None:
    gap = interpolate(buffer_of(10), 15, 100, value_of)
    assert isinstance(gap, Gap)
    assert "after the tick" in gap.reason
    assert gap.age_ns == 5


def test_interpolation_across_a_long_gap_is_refused() -> None:
    gap = interpolate(buffer_of(10, 500), 15, 100, value_of)
    assert isinstance(gap, Gap)


def test_a_window_ends_at_the_tick_and_steps_by_its_period() -> None:
    value = window(buffer_of(0, 10, 20, 30, 40), 35, 100, value_of, samples=3, period_ns=10)
    assert not isinstance(value, Gap)
    np.testing.assert_allclose(value[:, 0], [15, 25, 35])


def test_a_window_before_the_first_sample_says_so() -> None:
    gap = window(buffer_of(30, 40), 35, 100, value_of, samples=3, period_ns=10)
    assert isinstance(gap, Gap)
    assert "before the first sample" in gap.reason


def test_a_hole_inside_a_window_says_so() -> None:
    gap = window(buffer_of(0, 300, 310), 305, 20, value_of, samples=3, period_ns=10)
    assert isinstance(gap, Gap)
    assert "hole" in gap.reason


@pytest.mark.parametrize("samples", [1, 4])
def test_a_window_has_the_asked_shape(samples: int) -> None:
    value = window(buffer_of(*range(0, 200, 10)), 100, 50, value_of, samples=samples, period_ns=7)
    assert not isinstance(value, Gap)
    assert value.shape == (samples, 2)
