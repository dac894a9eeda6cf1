"""Facts about which command the simulated arm obeys."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.sim.commands import CommandBuffer, MotionCommand

STEP_NS = 12_500_000
TICK_NS = 50_000_000
START_NS = 1_000_000_000
HERE = np.zeros(3)

DISPLACEMENT = MotionCommand(
    kind="displacement",
    frame="base_link",
    stamp_ns=START_NS,
    linear=np.array([0.01, 0.0, -0.005]),
    angular=np.zeros(3),
    gripper=0.6,
    period_ns=TICK_NS,
    observation_stamp_ns=START_NS,
)


@pytest.fixture
def buffer() -> CommandBuffer:
    made = CommandBuffer("base_link", timeout_ns=100_000_000, step_ns=STEP_NS)
    made.clear(START_NS)
    return made


def travelled(buffer: CommandBuffer, n_steps: int) -> np.ndarray:
    motions = [buffer.motion_at(START_NS + k * STEP_NS, HERE) for k in range(n_steps)]
    return sum(m.velocity for m in motions) * (STEP_NS / 1e9)


def test_without_a_command_the_arm_is_halted_with_its_gripper_open(buffer: CommandBuffer) -> None:
    motion = buffer.motion_at(START_NS, HERE)
    assert motion.halted
    assert motion.gripper == -1.0
    assert not motion.velocity.any()


def test_a_displacement_moves_as_far_as_it_says_and_no_farther(buffer: CommandBuffer) -> None:
    assert buffer.offer(DISPLACEMENT, START_NS) is None
    np.testing.assert_allclose(travelled(buffer, 20), DISPLACEMENT.linear, atol=1e-15)


@given(st.integers(min_value=1, max_value=200_000_000))
def test_a_displacement_over_any_period_of_at_least_a_step_is_travelled_whole(period_ns: int) -> None:
    period_ns = max(period_ns, STEP_NS)
    buffer = CommandBuffer("base_link", timeout_ns=10**9, step_ns=STEP_NS)
    assert buffer.offer(dataclasses.replace(DISPLACEMENT, period_ns=period_ns), START_NS) is None
    np.testing.assert_allclose(travelled(buffer, 20), DISPLACEMENT.linear, rtol=1e-9)


def test_a_twist_holds_until_its_command_is_stale_and_then_the_arm_halts(buffer: CommandBuffer) -> None:
    twist = dataclasses.replace(DISPLACEMENT, kind="twist", linear=np.array([0.1, 0.0, 0.0]), period_ns=0)
    assert buffer.offer(twist, START_NS) is None
    motions = [buffer.motion_at(START_NS + k * STEP_NS, HERE) for k in range(10)]
    assert [m.halted for m in motions] == [False] * 8 + [True] * 2  # 8 steps are 0.1 s
    assert motions[7].velocity[0] == 0.1
    assert not motions[8].velocity.any()


def test_the_gripper_keeps_its_last_command_through_a_halt(buffer: CommandBuffer) -> None:
    buffer.offer(DISPLACEMENT, START_NS)
    buffer.motion_at(START_NS, HERE)
    late = buffer.motion_at(START_NS + 10 * TICK_NS, HERE)
    assert late.halted
    assert late.gripper == 0.6


def test_a_command_without_a_gripper_leaves_it_as_it_is(buffer: CommandBuffer) -> None:
    buffer.offer(DISPLACEMENT, START_NS)
    buffer.motion_at(START_NS, HERE)
    buffer.offer(dataclasses.replace(DISPLACEMENT, stamp_ns=START_NS + TICK_NS, gripper=None), START_NS + TICK_NS)
    assert buffer.motion_at(START_NS + TICK_NS, HERE).gripper == 0.6


def test_a_command_takes_effect_at_its_stamp_and_not_before(buffer: CommandBuffer) -> None:
    buffer.offer(dataclasses.replace(DISPLACEMENT, stamp_ns=START_NS + TICK_NS), START_NS)
    assert buffer.motion_at(START_NS + TICK_NS - STEP_NS, HERE).halted
    assert not buffer.motion_at(START_NS + TICK_NS, HERE).halted


def test_a_command_overtaken_on_the_way_is_not_obeyed(buffer: CommandBuffer) -> None:
    newer = dataclasses.replace(DISPLACEMENT, stamp_ns=START_NS + TICK_NS, gripper=0.1)
    buffer.offer(newer, START_NS + TICK_NS)
    buffer.motion_at(START_NS + TICK_NS, HERE)
    buffer.offer(DISPLACEMENT, START_NS + TICK_NS)
    assert buffer.motion_at(START_NS + TICK_NS + STEP_NS, HERE).gripper == 0.1


def test_a_pose_is_reached_within_its_period(buffer: CommandBuffer) -> None:
    target = np.array([0.02, -0.01, 0.0])
    buffer.offer(dataclasses.replace(DISPLACEMENT, kind="pose", linear=target), START_NS)
    position = np.zeros(3)
    for k in range(6):
        position += buffer.motion_at(START_NS + k * STEP_NS, position).velocity * (STEP_NS / 1e9)
        if k == 3:
            np.testing.assert_allclose(position, target)
    np.testing.assert_allclose(position, target)


@pytest.mark.parametrize(
    ("change", "now_ns", "reason", "says"),
    [
        ({"frame": "world"}, START_NS, "frame", "frame_id is 'world', expected 'base_link'"),
        ({"linear": np.array([np.nan, 0, 0])}, START_NS, "not_finite", "not finite"),
        ({"angular": np.array([0, 0, 0.1])}, START_NS, "rotation", "wrist does not turn"),
        ({"period_ns": 0}, START_NS, "period", "time it is spread over"),
        ({}, START_NS + 101_000_000, "stale", "0.101 s old, limit 0.100 s"),
        ({"stamp_ns": START_NS + 2 * 10**9}, START_NS, "future", "ahead"),
        ({"stamp_ns": START_NS - 1}, START_NS, "earlier_episode", "before the reset"),
        ({"observation_stamp_ns": START_NS - 1}, START_NS, "earlier_episode", "before the reset"),
    ],
)
def test_a_bad_command_is_refused_counted_and_explained(
    buffer: CommandBuffer, change: dict[str, object], now_ns: int, reason: str, says: str
) -> None:
    sentence = buffer.offer(dataclasses.replace(DISPLACEMENT, **change), now_ns)
    assert sentence is not None
    assert says in sentence
    assert buffer.counts() == {"accepted": 0, reason: 1}
    assert buffer.motion_at(now_ns, HERE).halted


def test_only_a_command_on_the_tick_itself_answers_it(buffer: CommandBuffer) -> None:
    tick_ns = START_NS + TICK_NS
    buffer.offer(dataclasses.replace(DISPLACEMENT, stamp_ns=tick_ns, observation_stamp_ns=0), tick_ns)
    buffer.offer(dataclasses.replace(DISPLACEMENT, stamp_ns=START_NS, observation_stamp_ns=START_NS), tick_ns)
    assert not buffer.answered(tick_ns)
    buffer.offer(dataclasses.replace(DISPLACEMENT, stamp_ns=tick_ns, observation_stamp_ns=tick_ns), tick_ns)
    assert buffer.answered(tick_ns)
