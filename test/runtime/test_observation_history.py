"""A history holds consecutive ticks of one episode, or begins anew."""

import numpy as np
import pytest

from vla_ros.data_types import Frame, ObservationError, tick_ns
from vla_ros.runtime import LatencyTracker, ObservationHistory

KEY = "observation.state"


def frame(index: int, fps: int = 20) -> Frame:
    return Frame(tick_ns(index, fps), {KEY: np.array([index], np.float32), "other": np.zeros(1)}, f"task {index}")


def values(history: ObservationHistory) -> list[float]:
    return [float(row[0]) for row in history.observation().values[KEY]]


def test_an_observation_is_the_last_frames_oldest_first() -> None:
    history = ObservationHistory(3, 20, [KEY])
    for index in range(5):
        history.push(frame(index))
    observation = history.observation()
    assert values(history) == [2, 3, 4]
    assert observation.stamp_ns == tick_ns(4, 20)
    assert observation.instruction == "task 4"
    assert not observation.is_pad.any()
    assert set(observation.values) == {KEY}


def test_the_first_frame_is_repeated_and_marked_where_the_episode_had_not_begun() -> None:
    history = ObservationHistory(3, 20, [KEY])
    history.push(frame(7))
    assert values(history) == [7, 7, 7]
    assert history.observation().is_pad.tolist() == [True, True, False]


def test_a_gap_begins_the_history_anew() -> None:
    history = ObservationHistory(3, 20, [KEY])
    for index in (1, 2, 3, 5):
        history.push(frame(index))
    assert values(history) == [5, 5, 5]


def test_ticks_rounded_to_nanoseconds_are_no_gap() -> None:
    history = ObservationHistory(4, 30, [KEY])
    for index in range(300):
        history.push(frame(index, fps=30))
        assert len(history) == min(index + 1, 4)


def test_a_frame_without_an_input_is_refused_by_name() -> None:
    with pytest.raises(ObservationError, match=r"lacks observation\.images\.front"):
        ObservationHistory(1, 20, [KEY, "observation.images.front"]).push(frame(0))


def test_a_frame_that_is_not_later_is_a_bug() -> None:
    history = ObservationHistory(2, 20)
    history.push(frame(3))
    with pytest.raises(ValueError, match="not later"):
        history.push(frame(3))


def test_without_a_frame_there_is_no_observation() -> None:
    with pytest.raises(ObservationError, match="no frame yet"):
        ObservationHistory(1, 20).observation()


def test_cold_starts_do_not_enter_the_percentiles() -> None:
    tracker = LatencyTracker(cold_starts=1)
    for duration in (10**12, 10, 20, 30):
        tracker.add(duration)
    assert tracker.percentile_s(50) == pytest.approx(20e-9)
    tracker.restart()
    assert np.isnan(tracker.percentile_s(99))


def test_an_optional_feature_is_taken_where_it_is_there_and_never_mixed() -> None:
    history = ObservationHistory(3, 20, ["observation.state"], ["goal.image"])
    goal = {"goal.image": np.zeros((2, 2, 3), np.uint8)}
    for index in range(2):
        history.push(frame(index))
    assert [*history.observation().values] == ["observation.state"]
    given = frame(2)
    history.push(Frame(given.stamp_ns, {**given.values, **goal}, given.instruction))
    observation = history.observation()
    assert observation.values["goal.image"].shape == (3, 2, 2, 3)
    assert observation.is_pad.tolist() == [True, True, False]
    history.push(frame(3))
    assert history.observation().is_pad.tolist() == [True, True, False]
    assert "goal.image" not in history.observation().values
