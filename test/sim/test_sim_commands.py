"""Facts about which command a simulated robot obeys."""

import dataclasses

import numpy as np
import pytest

from vla_ros.sim.commands import CommandBuffer, CommandRefusedError, SimCommand

STEP_NS = 12_500_000
TICK_NS = 50_000_000
START_NS = 1_000_000_000

COMMAND = SimCommand(START_NS, np.array([0.01, 0.0]), TICK_NS, START_NS)


def at(stamp_ns: int, order: float = 0.0) -> SimCommand:
    return SimCommand(stamp_ns, order, TICK_NS, START_NS)


@pytest.fixture
def buffer() -> CommandBuffer:
    made = CommandBuffer(timeout_ns=100_000_000)
    made.clear(START_NS)
    return made


def test_without_a_command_the_robot_is_halted(buffer: CommandBuffer) -> None:
    assert buffer.command_at(START_NS) is None


def test_a_command_holds_until_it_is_stale_and_then_the_robot_halts(buffer: CommandBuffer) -> None:
    assert buffer.offer(COMMAND, START_NS) is None
    obeyed = [buffer.command_at(START_NS + k * STEP_NS) for k in range(10)]
    assert obeyed == [COMMAND] * 8 + [None] * 2  # 8 steps are 0.1 s


def test_a_command_takes_effect_at_its_stamp_and_not_before(buffer: CommandBuffer) -> None:
    buffer.offer(dataclasses.replace(COMMAND, stamp_ns=START_NS + TICK_NS), START_NS)
    assert buffer.command_at(START_NS + TICK_NS - STEP_NS) is None
    assert buffer.command_at(START_NS + TICK_NS) is not None


def test_a_command_overtaken_on_the_way_is_not_obeyed(buffer: CommandBuffer) -> None:
    newer = at(START_NS + TICK_NS)
    buffer.offer(newer, START_NS + TICK_NS)
    buffer.command_at(START_NS + TICK_NS)
    buffer.offer(COMMAND, START_NS + TICK_NS)
    assert buffer.command_at(START_NS + TICK_NS + STEP_NS) is newer


def test_of_two_commands_of_one_moment_the_one_that_came_last_holds(buffer: CommandBuffer) -> None:
    first, last = at(START_NS), at(START_NS)
    buffer.offer(first, START_NS)
    buffer.offer(last, START_NS)
    assert buffer.command_at(START_NS) is last


def test_a_plan_is_followed_step_by_step_and_replaced_by_the_next(buffer: CommandBuffer) -> None:
    plan = [at(START_NS + k * TICK_NS, k) for k in range(3)]
    buffer.offer_plan(plan, START_NS)
    assert [buffer.command_at(c.stamp_ns).order for c in plan[:2]] == [0, 1]
    buffer.offer_plan([at(START_NS + k * TICK_NS, 10 + k) for k in (2, 3)], START_NS + TICK_NS)
    assert buffer.command_at(START_NS + 2 * TICK_NS).order == 12


@pytest.mark.parametrize(
    ("change", "now_ns", "reason", "says"),
    [
        ({}, START_NS + 101_000_000, "stale", "0.101 s old, limit 0.100 s"),
        ({"stamp_ns": START_NS + 2 * 10**9}, START_NS, "future", "ahead"),
        ({"stamp_ns": START_NS - 1}, START_NS, "earlier_episode", "before the reset"),
        ({"observation_stamp_ns": START_NS - 1}, START_NS, "earlier_episode", "before the reset"),
    ],
)
def test_a_bad_command_is_refused_counted_and_explained(
    buffer: CommandBuffer, change: dict[str, int], now_ns: int, reason: str, says: str
) -> None:
    sentence = buffer.offer(dataclasses.replace(COMMAND, **change), now_ns)
    assert sentence is not None
    assert says in sentence
    assert buffer.counts() == {"accepted": 0, reason: 1}
    assert buffer.command_at(now_ns) is None


def test_what_a_robot_refuses_is_counted_beside(buffer: CommandBuffer) -> None:
    buffer.refuse(CommandRefusedError("frame", "frame_id is another"))
    assert buffer.counts() == {"accepted": 0, "frame": 1}


def test_only_a_command_on_the_tick_itself_answers_it(buffer: CommandBuffer) -> None:
    tick_ns = START_NS + TICK_NS
    buffer.offer(SimCommand(tick_ns, None, TICK_NS, 0), tick_ns)
    buffer.offer(COMMAND, tick_ns)
    assert not buffer.answered(tick_ns)
    buffer.offer(SimCommand(tick_ns, None, TICK_NS, tick_ns), tick_ns)
    assert buffer.answered(tick_ns)


def test_a_command_that_cannot_name_its_observation_answers_the_tick_it_is_for(buffer: CommandBuffer) -> None:
    tick_ns = START_NS + TICK_NS
    buffer.offer(SimCommand(tick_ns, None, TICK_NS), tick_ns)
    assert buffer.answered(tick_ns)
