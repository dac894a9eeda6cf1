"""What leaves the filter is within every bound, and what is within every bound leaves it unchanged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vla_ros.contract import LimitsSpec, RobotContract, load_contract
from vla_ros.data_types import ActionChunk, Command, ContractError
from vla_ros.data_types.rotations import convert
from vla_ros.safety import SafetyFilter

SAWYER = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
PERIOD = 50_000_000
BOX_LOW, BOX_HIGH = np.array(SAWYER.action.limits.workspace_min), np.array(SAWYER.action.limits.workspace_max)
INSIDE = np.array([0.0, 0.6, 0.2])

numbers = st.floats(-0.1, 0.1)
actions = st.tuples(numbers, numbers, numbers, st.floats(-3, 3)).map(np.array)
positions = st.tuples(*(st.floats(low, high) for low, high in zip(BOX_LOW, BOX_HIGH, strict=True))).map(np.array)


def contract(**limits: object) -> RobotContract:
    action = SAWYER.action
    return replace(SAWYER, action=replace(action, limits=replace(action.limits, **limits)))


LIMITED = contract(max_speed=0.15, max_acceleration=1.0)


def command(action: NDArray[np.float64] | list[float], tick: int = 1) -> Command:
    return Command(np.asarray(action, dtype=np.float64), tick * PERIOD, PERIOD)


def passed(
    subject: SafetyFilter, wanted: Command, position: NDArray[np.float64] | None = INSIDE
) -> NDArray[np.float64]:
    result = subject.filter(wanted, position)
    assert result.command is not None
    return result.command.action


@given(sequence=st.lists(st.tuples(actions, positions), min_size=1, max_size=8))
def test_every_command_is_within_every_bound(sequence: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    subject, limits = SafetyFilter(LIMITED), LIMITED.action.limits
    previous = np.zeros(3)
    for tick, (action, position) in enumerate(sequence):
        out = passed(subject, command(action, tick), position)
        velocity = out[:3] / 0.05
        assert (out >= np.array(limits.lower) - 1e-9).all()
        assert (out <= np.array(limits.upper) + 1e-9).all()
        assert np.linalg.norm(velocity) <= 0.15 + 1e-6
        assert (position + out[:3] >= BOX_LOW - 1e-9).all()
        assert (position + out[:3] <= BOX_HIGH + 1e-9).all()
        # Acceleration: what is not braking changes by at most 1 m/s² over the 0.05 s
        braking = (velocity * np.sign(previous) >= -1e-12) & (np.abs(velocity) <= np.abs(previous) + 1e-9)
        assert np.linalg.norm(np.where(braking, 0.0, velocity - previous)) <= 0.05 + 1e-6
        previous = velocity


@given(first=actions, action=actions, position=positions)
def test_filtering_its_own_output_changes_nothing(
    first: NDArray[np.float64], action: NDArray[np.float64], position: NDArray[np.float64]
) -> None:
    subjects = [SafetyFilter(LIMITED) for _ in range(2)]
    for subject in subjects:
        subject.filter(command(first, 0), INSIDE)
    once = passed(subjects[0], command(action), position)
    twice = subjects[1].filter(command(once), position)
    assert twice.command is not None
    np.testing.assert_allclose(twice.command.action, once, rtol=0, atol=1e-12)


@given(sequence=st.lists(actions, min_size=1, max_size=6))
def test_it_is_deterministic(sequence: list[NDArray[np.float64]]) -> None:
    runs = []
    for _ in range(2):
        subject = SafetyFilter(LIMITED)
        runs.append([passed(subject, command(action, tick)).tolist() for tick, action in enumerate(sequence)])
    assert runs[0] == runs[1]


def test_a_command_within_all_bounds_is_the_same_object() -> None:
    wanted = command([0.001, 0, 0, 0.5])
    result = SafetyFilter(SAWYER).filter(wanted, INSIDE)
    assert result.command is wanted
    assert result.interventions == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", range(4))
def test_one_number_that_is_not_finite_drops_the_whole_command(bad: float, index: int) -> None:
    action = np.zeros(4)
    action[index] = bad
    subject = SafetyFilter(SAWYER)
    result = subject.filter(command(action), INSIDE)
    assert (result.command, result.interventions) == (None, ("not_finite",))
    assert subject.counts["not_finite"] == 1


def test_speed_is_reduced_along_the_same_direction() -> None:
    subject = SafetyFilter(contract(lower=(), upper=(), max_speed=0.1))
    out = passed(subject, command([0.03, 0.04, 0.0, 0.0]))
    np.testing.assert_allclose(out[:3], [0.003, 0.004, 0.0])


def test_braking_is_never_limited() -> None:
    subject = SafetyFilter(contract(max_speed=None, max_acceleration=0.1))
    for tick in range(10):
        out = passed(subject, command([0.012, 0, 0, 0], tick))
    assert out[0] > 0.002
    result = subject.filter(command([0, 0, 0, 0], 10), INSIDE)
    assert result.command is not None
    assert result.command.action[0] == 0
    assert result.interventions == ()


def test_after_a_pause_acceleration_counts_from_standstill() -> None:
    subject = SafetyFilter(contract(max_speed=None, max_acceleration=0.1))
    for tick in range(10):
        passed(subject, command([0.012, 0, 0, 0], tick))
    assert passed(subject, command([0.012, 0, 0, 0], 100))[0] == pytest.approx(0.1 * 0.05 * 0.05)


def test_motion_out_of_the_workspace_is_removed_axis_by_axis() -> None:
    result = SafetyFilter(SAWYER).filter(command([0.01, 0.01, 0.0, 0.0]), np.array([0.515, 0.6, 0.2]))
    assert result.command is not None
    np.testing.assert_allclose(result.command.action[:2], [0.005, 0.01])
    assert result.interventions == ("workspace",)


@pytest.mark.parametrize(("dx", "expected"), [(0.01, 0.0), (-0.01, -0.01)])
def test_outside_the_workspace_only_the_way_back_is_open(dx: float, expected: float) -> None:
    out = passed(SafetyFilter(SAWYER), command([dx, 0, 0, 0]), np.array([0.6, 0.6, 0.2]))
    assert out[0] == pytest.approx(expected)


def test_a_workspace_without_a_position_refuses() -> None:
    subject = SafetyFilter(SAWYER)
    assert subject.needs_measurement
    assert subject.filter(command([0, 0, 0, 0]), None).interventions == ("position_unknown",)


def test_a_latched_stop_drops_everything_until_it_is_reset() -> None:
    subject = SafetyFilter(SAWYER)
    subject.stop.latch()
    assert subject.filter(command([0, 0, 0, 0]), INSIDE).interventions == ("stop_latched",)
    subject.reset()
    assert subject.stop.latched
    subject.stop.reset()
    assert subject.filter(command([0, 0, 0, 0]), INSIDE).command is not None


def test_a_chunk_is_bounded_step_by_step_without_changing_the_filter() -> None:
    subject = SafetyFilter(SAWYER)
    wanted = ActionChunk(np.tile([0.01, 0.0, 0.0, 0.0], (4, 1)), PERIOD, PERIOD, 1)
    chunk, names = subject.filter_chunk(wanted, np.array([0.505, 0.6, 0.2]))
    assert chunk is not None
    np.testing.assert_allclose(chunk.actions_HA[:, 0], [0.01, 0.005, 0, 0], atol=1e-12)
    assert names == ("workspace",)
    assert subject.last_action is None


def test_a_chunk_ends_before_its_first_bad_step() -> None:
    actions = np.zeros((4, 4))
    actions[2, 1] = np.nan
    chunk, names = SafetyFilter(SAWYER).filter_chunk(ActionChunk(actions, 0, PERIOD, 1), INSIDE)
    assert chunk is not None
    assert len(chunk.actions_HA) == 2
    assert names == ("not_finite",)


def posed(**limits: object) -> RobotContract:
    names = ("x", "y", "z", "qx", "qy", "qz", "qw")
    action = replace(
        SAWYER.action,
        names=names,
        representation="pose",
        rotation="quaternion",
        gripper=None,
        limits=LimitsSpec(**limits),
    )
    return replace(SAWYER, action=action)


def pose(x: float, yaw: float) -> list[float]:
    return [x, 0.6, 0.2, *convert([0.0, 0.0, yaw], "rotation_vector", "quaternion")]


def test_a_pose_is_clamped_to_the_workspace() -> None:
    subject = SafetyFilter(posed(workspace_min=tuple(BOX_LOW), workspace_max=tuple(BOX_HIGH)))
    assert passed(subject, command(pose(0.9, 0.0)), None)[0] == pytest.approx(0.52)


def test_a_pose_approaches_no_faster_than_allowed_in_place_and_turn() -> None:
    subject = SafetyFilter(posed(max_speed=0.2, max_angular_speed=1.0))
    passed(subject, command(pose(0.0, 0.0), 0), None)
    out = passed(subject, command(pose(0.5, 2.0), 1), None)
    assert out[0] == pytest.approx(0.2 * 0.05)
    np.testing.assert_allclose(convert(out[3:], "quaternion", "rotation_vector"), [0, 0, 0.05], atol=1e-9)


def test_a_quaternion_of_length_zero_is_dropped() -> None:
    result = SafetyFilter(posed()).filter(command([0, 0.6, 0.2, 0, 0, 0, 0]))
    assert result.interventions == ("degenerate_rotation",)


def test_joints_slow_down_together() -> None:
    action = replace(
        SAWYER.action,
        names=("a", "b"),
        representation="joint_position",
        gripper=None,
        limits=LimitsSpec(max_angular_speed=1.0),
    )
    subject = SafetyFilter(replace(SAWYER, action=action))
    passed(subject, command([0.0, 0.0], 0), None)
    np.testing.assert_allclose(passed(subject, command([0.2, -0.1], 1), None), [0.05, -0.025])


def test_limits_that_exclude_standing_still_are_refused() -> None:
    with pytest.raises(ContractError, match=r"'dx' are 0.001 to 0.012 and exclude zero"):
        SafetyFilter(contract(lower=(0.001, -0.012, -0.012, -1.0)))
