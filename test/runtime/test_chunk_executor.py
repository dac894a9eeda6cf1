"""A chunk's steps are due by time: whatever the mode, shifting all times changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.contract import ActionSpec, load_contract
from vla_ros.data_types import ActionChunk, ConfigError
from vla_ros.data_types.rotations import convert
from vla_ros.runtime import EXECUTION_MODES, ChunkExecutor, ExecutionStatus
from vla_ros.runtime.chunk_executor import chunk_problem

CONTRACT = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
FPS = CONTRACT.fps
PERIOD = 50_000_000


def chunk(tick: int, chunk_id: int, horizon: int = 4, shift_ns: int = 0, value: float | None = None) -> ActionChunk:
    """Numbers that tell chunk and step: 100 * id + step."""
    actions = np.zeros((horizon, 4))
    actions[:, 0] = 100 * chunk_id + np.arange(horizon) if value is None else value
    actions[:, 3] = 0.5
    return ActionChunk(actions, tick * PERIOD + shift_ns, PERIOD, chunk_id)


def executor(mode: str = "latest", action: ActionSpec = CONTRACT.action, **options: float) -> ChunkExecutor:
    return ChunkExecutor(action, FPS, mode, **options)  # type: ignore[arg-type]


def first_number(subject: ChunkExecutor, tick: float) -> float:
    command = subject.command_at(round(tick * PERIOD)).command
    assert command is not None
    return float(command.action[0])


def test_the_step_is_the_whole_periods_since_the_observation() -> None:
    subject = executor()
    subject.submit(chunk(10, 1))
    assert [first_number(subject, tick) for tick in (10, 10.99, 11, 13.5)] == [100, 100, 101, 103]


def test_a_command_says_what_it_comes_from_and_when_it_takes_effect() -> None:
    subject = executor()
    subject.submit(chunk(10, 7))
    command = subject.command_at(12 * PERIOD).command
    assert command is not None
    assert (command.effect_ns, command.period_ns) == (12 * PERIOD, PERIOD)
    assert (command.observation_stamp_ns, command.chunk_id, command.chunk_index) == (10 * PERIOD, 7, 2)


def test_without_a_chunk_there_is_nothing_to_do() -> None:
    found = executor().command_at(0)
    assert found.command is None
    assert found.status is ExecutionStatus.WAITING


def test_a_chunk_of_the_future_is_not_executed_before_its_observation() -> None:
    subject = executor()
    subject.submit(chunk(10, 1))
    subject.submit(chunk(12, 2))
    assert first_number(subject, 11) == 101


@pytest.mark.parametrize("mode", EXECUTION_MODES)
@given(shift_ns=st.integers(0, 10**15), ticks=st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_shifting_all_times_leaves_the_actions(mode: str, shift_ns: int, ticks: list[int]) -> None:
    results = []
    for shift in (0, shift_ns):
        subject = executor(mode)
        given_actions = []
        for index, tick in enumerate(ticks):
            subject.submit(chunk(tick, index + 1, shift_ns=shift))
            command = subject.command_at(max(ticks) * PERIOD + index * PERIOD + shift).command
            given_actions.append(None if command is None else command.action.tolist())
        results.append(given_actions)
    assert results[0] == results[1]


@given(stamps=st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_an_older_chunk_never_overrides_a_newer_one(stamps: list[int]) -> None:
    subject, newest = executor(), -1
    for index, stamp in enumerate(stamps):
        subject.submit(chunk(stamp, index + 1))
        newest = max(newest, stamp)
        assert subject.newest is not None
        assert subject.newest.observation_stamp_ns == newest * PERIOD


def test_a_later_prediction_on_the_same_observation_replaces_the_earlier() -> None:
    subject = executor()
    assert subject.submit(chunk(10, 1))
    assert subject.submit(chunk(10, 2))
    assert not subject.submit(chunk(10, 1))
    assert first_number(subject, 10) == 200


def test_latest_turns_to_every_new_chunk_at_once() -> None:
    subject = executor()
    subject.submit(chunk(10, 1))
    assert first_number(subject, 11) == 101
    subject.submit(chunk(11, 2))
    assert first_number(subject, 11) == 200


def test_receding_horizon_keeps_a_chunk_for_its_steps() -> None:
    subject = executor("receding_horizon", n_action_steps=2)
    followed = []
    for tick in range(10, 16):
        subject.submit(chunk(tick, tick))
        followed.append(first_number(subject, tick))
    assert followed == [1000, 1001, 1200, 1201, 1400, 1401]


def test_another_policys_chunks_are_followed_for_its_own_steps() -> None:
    subject = executor("receding_horizon", n_action_steps=2)
    followed = []
    for tick in range(10, 16):
        if tick == 12:
            subject.follow(3)
        subject.submit(chunk(tick, tick))
        followed.append(first_number(subject, tick))
    assert followed == [1000, 1001, 1002, 1300, 1301, 1302]
    with pytest.raises(ConfigError, match="n_action_steps=0 must be at least 1"):
        subject.follow(0)


def test_receding_horizon_leaves_a_chunk_that_was_cleared() -> None:
    subject = executor("receding_horizon", n_action_steps=4)
    subject.submit(chunk(10, 1))
    first_number(subject, 10)
    subject.clear()
    assert subject.command_at(11 * PERIOD).status is ExecutionStatus.WAITING
    subject.submit(chunk(11, 2))
    assert first_number(subject, 11) == 200


def test_ensembling_is_the_published_weighted_mean() -> None:
    subject = executor("temporal_ensemble", ensemble_decay=0.01)
    for tick in (10, 11, 12):
        subject.submit(chunk(tick, tick))
    weights = np.exp(-0.01 * np.arange(3))  # the oldest first
    expected = weights @ np.array([1002.0, 1101.0, 1200.0]) / weights.sum()
    assert first_number(subject, 12) == pytest.approx(expected)


def test_ensembling_counts_only_chunks_that_reach_the_moment() -> None:
    subject = executor("temporal_ensemble", ensemble_decay=0.0)
    subject.submit(chunk(10, 1, horizon=2))  # reaches ticks 10 and 11
    subject.submit(chunk(11, 2, horizon=4))
    assert first_number(subject, 11) == pytest.approx((101 + 200) / 2)
    assert first_number(subject, 12) == 201


def test_a_zero_is_an_action_like_any_other_in_the_ensemble() -> None:
    subject = executor("temporal_ensemble", ensemble_decay=0.0)
    subject.submit(chunk(10, 1, value=0.0))
    subject.submit(chunk(11, 2, value=1.0))
    assert first_number(subject, 11) == pytest.approx(0.5)


def test_opposite_quaternions_of_one_rotation_do_not_cancel() -> None:
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    action = replace(CONTRACT.action, names=names, representation="pose", rotation="quaternion", gripper=None)
    subject = executor("temporal_ensemble", action, ensemble_decay=0.0)
    turn = convert([0.0, 0.0, 1.0], "rotation_vector", "quaternion")
    for tick, sign in ((10, 1.0), (11, -1.0)):
        row = np.concatenate([np.zeros(3), sign * turn])
        subject.submit(ActionChunk(np.tile(row, (4, 1)), tick * PERIOD, PERIOD, tick))
    command = subject.command_at(11 * PERIOD).command
    assert command is not None
    np.testing.assert_allclose(convert(command.action[3:], "quaternion", "rotation_vector"), [0, 0, 1], atol=1e-12)


def test_past_the_end_zero_stops_the_motion_and_keeps_the_gripper() -> None:
    subject = executor()
    subject.submit(chunk(10, 1))
    first_number(subject, 13)
    found = subject.command_at(14 * PERIOD)
    assert (found.command, found.status) == (None, ExecutionStatus.ZERO)


def test_past_the_end_hold_repeats_the_last_step_for_a_while_and_then_stops() -> None:
    subject = executor(action=replace(CONTRACT.action, past_end="hold", max_hold_s=0.1))
    subject.submit(chunk(10, 1))
    found = subject.command_at(15 * PERIOD)
    assert found.status is ExecutionStatus.HOLDING
    assert found.command is not None
    assert found.command.action[0] == 103
    assert subject.command_at(16 * PERIOD).status is ExecutionStatus.STOPPED


def test_past_the_end_stop_gives_no_command() -> None:
    subject = executor(action=replace(CONTRACT.action, past_end="stop"))
    subject.submit(chunk(10, 1))
    found = subject.command_at(14 * PERIOD)
    assert (found.command, found.status) == (None, ExecutionStatus.STOPPED)


@pytest.mark.parametrize("latency", [0, 20_000_000, 49_000_000, 120_000_000])
def test_a_chunk_of_one_step_is_due_for_one_period_from_its_arrival(latency: int) -> None:
    subject = executor()
    one = ActionChunk(np.array([[0.1, 0.0, 0.0, 0.5]]), 10 * PERIOD, PERIOD, 1)
    arrival = 10 * PERIOD + latency
    subject.submit(one, arrival)
    assert subject.command_at(arrival - 1).status is ExecutionStatus.WAITING
    for moment in (arrival, arrival + PERIOD - 1):
        found = subject.command_at(moment)
        assert found.command is not None
        assert (found.command.action[0], found.command.observation_stamp_ns) == (0.1, 10 * PERIOD)
    assert subject.command_at(arrival + PERIOD).status is ExecutionStatus.ZERO


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_named_with_its_step(bad: float) -> None:
    actions = np.zeros((4, 4))
    actions[2, 1] = bad
    problem = chunk_problem(CONTRACT.action, ActionChunk(actions, 0, PERIOD, 1))
    assert problem == f"'dy' of step 2 is {bad}, not a finite number"


def test_a_rotation_that_stands_for_none_is_a_problem_of_its_chunk() -> None:
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    action = replace(CONTRACT.action, names=names, representation="pose", rotation="quaternion", gripper=None)
    actions = np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], (3, 1))
    assert chunk_problem(action, ActionChunk(actions.copy(), 0, PERIOD, 1)) == ""
    actions[1, 6] = 0.0
    assert "stands for no rotation" in chunk_problem(action, ActionChunk(actions, 0, PERIOD, 1))


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("lastest", {}, "Did you mean 'latest'"),
        ("receding_horizon", {"n_action_steps": 0}, "n_action_steps=0"),
        ("temporal_ensemble", {"ensemble_decay": -1.0}, "must not be negative"),
    ],
)
def test_a_wrong_option_is_refused_in_a_sentence(mode: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        executor(mode, **options)


def test_a_chunk_of_another_robot_is_refused() -> None:
    with pytest.raises(ValueError, match="3 numbers per action, not 4"):
        executor().submit(ActionChunk(np.zeros((2, 3)), 0, PERIOD, 1))
