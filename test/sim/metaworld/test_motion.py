"""Facts about what the simulated arm makes of its commands."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.contract import load_contract
from vla_ros.sim.commands import CommandRefusedError
from vla_ros.sim.metaworld.motion import ArmOrder, Motion, order_of_action, read_command

CONTRACT = load_contract(Path(__file__).parents[3] / "config" / "robots" / "metaworld_sawyer.yaml")
ACTION_SINK, TWIST_SINK = CONTRACT.action.sinks[:2]
STEP_NS = 12_500_000
TICK_NS = 50_000_000
HERE = np.zeros(3)
DISPLACEMENT = ArmOrder("displacement", np.array([0.01, 0.0, -0.005]), 0.6)


def made(order: ArmOrder | None, period_ns: int = TICK_NS) -> Motion:
    motion = Motion(STEP_NS, -1.0)
    motion.take(order, period_ns)
    return motion


def travelled(motion: Motion, n_steps: int) -> np.ndarray:
    return sum(motion.step(HERE) for _ in range(n_steps)) * (STEP_NS / 1e9)


def test_a_displacement_moves_as_far_as_it_says_and_no_farther() -> None:
    np.testing.assert_allclose(travelled(made(DISPLACEMENT), 20), DISPLACEMENT.linear, atol=1e-15)


@given(st.integers(min_value=STEP_NS, max_value=200_000_000))
def test_a_displacement_over_any_period_of_at_least_a_step_is_travelled_whole(period_ns: int) -> None:
    np.testing.assert_allclose(travelled(made(DISPLACEMENT, period_ns), 20), DISPLACEMENT.linear, rtol=1e-9)


def test_a_twist_lasts() -> None:
    motion = made(ArmOrder("twist", np.array([0.1, 0.0, 0.0]), None))
    assert [motion.step(HERE)[0] for _ in range(20)] == [0.1] * 20


def test_a_pose_is_reached_within_its_period() -> None:
    target = np.array([0.02, -0.01, 0.0])
    motion, position = made(ArmOrder("pose", target, None)), np.zeros(3)
    for k in range(6):
        position += motion.step(position) * (STEP_NS / 1e9)
        if k == 3:
            np.testing.assert_allclose(position, target)
    np.testing.assert_allclose(position, target)


def test_the_gripper_keeps_its_last_command_through_a_halt_and_a_command_without_one() -> None:
    motion = made(DISPLACEMENT)
    assert motion.gripper == 0.6
    motion.take(None, TICK_NS)
    motion.take(ArmOrder("twist", HERE, None), TICK_NS)
    assert motion.gripper == 0.6


def test_a_number_that_a_message_says_nothing_of_leaves_the_gripper_as_it_is() -> None:
    assert order_of_action(np.array([0.0, 0.0, 0.01, np.nan]), CONTRACT).gripper is None
    assert order_of_action(np.array([0.0, 0.0, 0.01, 0.25]), CONTRACT).gripper == 0.25


def vector(values: Any) -> SimpleNamespace:
    return SimpleNamespace(x=values[0], y=values[1], z=values[2])


def message(**change: Any) -> SimpleNamespace:
    given = {"frame": "base_link", "linear": [0.01, 0, 0], "angular": [0, 0, 0], "period": TICK_NS, **change}
    stamp = SimpleNamespace(sec=2, nanosec=5)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=given["frame"], stamp=stamp),
        representation=given.get("representation", 0),
        linear=vector(given["linear"]),
        angular=vector(given["angular"]),
        gripper=0.5,
        period=SimpleNamespace(sec=0, nanosec=given["period"]),
        observation_stamp=stamp,
    )


def test_a_command_carries_its_moment_and_the_observation_that_it_answers() -> None:
    command = read_command(CONTRACT, ACTION_SINK, message())
    assert (command.stamp_ns, command.period_ns, command.observation_stamp_ns) == (
        2_000_000_005,
        TICK_NS,
        2_000_000_005,
    )
    assert command.order.kind == "displacement"
    assert command.order.gripper == 0.5


def test_a_servo_twist_is_a_velocity_without_a_gripper() -> None:
    inside = SimpleNamespace(linear=vector([0.1, 0, 0]), angular=vector([0, 0, 0]))
    command = read_command(CONTRACT, TWIST_SINK, SimpleNamespace(header=message().header, twist=inside))
    assert (command.order.kind, command.order.linear[0], command.order.gripper) == ("twist", 0.1, None)
    assert command.observation_stamp_ns is None


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"frame": "world"}, "frame", "frame_id is 'world', expected 'base_link'"),
        ({"linear": [np.nan, 0, 0]}, "not_finite", "not finite"),
        ({"angular": [0, 0, 0.1]}, "rotation", "wrist does not turn"),
        ({"period": 0}, "period", "time it is spread over"),
        ({"representation": 7}, "representation", "representation 7 is none of"),
    ],
)
def test_a_command_that_the_arm_cannot_obey_is_refused(change: dict[str, Any], reason: str, says: str) -> None:
    with pytest.raises(CommandRefusedError, match=says) as refusal:
        read_command(CONTRACT, ACTION_SINK, message(**change))
    assert refusal.value.reason == reason
