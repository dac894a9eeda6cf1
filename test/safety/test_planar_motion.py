"""Commands of a mobile base are bounded as the spatial twists that they are."""

from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import Command
from vla_ros.safety import SafetyFilter

PERIOD_NS = 50_000_000


def base(names: list[str], limits: dict[str, Any], gripper: bool = False) -> RobotContract:
    odometry = {"key": "observation.odometry", "topic": "/odom", "type": "nav_msgs/msg/Odometry", "max_age_s": 0.2}
    action = {
        "representation": "planar_twist",
        "names": [*names, *(["grip"] if gripper else [])],
        "units": ["1"] * (len(names) + gripper),
        "record": {
            "topic": "/r",
            "type": "std_msgs/msg/Float64MultiArray",
            "max_age_s": 1.0,
            "alignment": {"timeline": "receive"},
        },
        "sinks": [{"topic": "/s", "type": "std_msgs/msg/Float64MultiArray"}],
        "limits": limits,
    }
    if gripper:
        action["gripper"] = {"name": "grip", "open": 1.0, "closed": 0.0}
    top = {"robot_type": "base", "fps": 20, "base_frame": "odom", "tool_frame": "base_link"}
    action["frame"] = "base_link"
    return parse_contract({**top, "inputs": [odometry], "action": action}, "base.yaml")


def command(k: int, *action: float) -> Command:
    return Command(np.array(action), k * PERIOD_NS, PERIOD_NS)


def passed(filtered: SafetyFilter, k: int, *action: float) -> list[float]:
    result = filtered.filter(command(k, *action))
    assert result.command is not None
    return [float(value) for value in result.command.action]


def test_speed_and_turning_are_bounded_each_by_its_own_limit() -> None:
    filtered = SafetyFilter(base(["x", "turn"], {"max_speed": 0.5, "max_angular_speed": 1.0}))
    assert passed(filtered, 1, 0.4, -0.9) == [0.4, -0.9]
    assert passed(filtered, 2, 0.8, -3.0) == pytest.approx([0.5, -1.0])
    assert filtered.counts == {"speed": 1, "angular_speed": 1}


def test_the_speed_of_a_base_that_moves_sideways_is_that_of_both_axes() -> None:
    filtered = SafetyFilter(base(["x", "y", "turn"], {"max_speed": 0.5}))
    assert passed(filtered, 1, 0.6, 0.8, 0.2) == pytest.approx([0.3, 0.4, 0.2])


def test_acceleration_is_bounded_from_one_command_to_the_next() -> None:
    filtered = SafetyFilter(base(["x", "turn"], {"max_acceleration": 1.0, "max_angular_acceleration": 2.0}))
    values = [passed(filtered, k, 1.0, 1.0) for k in range(1, 4)]
    np.testing.assert_allclose(values, [[0.05, 0.1], [0.1, 0.2], [0.15, 0.3]])


def test_standing_still_is_zero_with_the_gripper_as_it_was() -> None:
    filtered = SafetyFilter(base(["x", "turn"], {}, gripper=True))
    assert passed(filtered, 1, 0.2, 0.1, 0.7) == [0.2, 0.1, 0.7]
    hold = filtered.hold_action()
    assert hold is not None
    assert hold.tolist() == [0.0, 0.0, 0.7]


def test_ranges_hold_number_by_number() -> None:
    filtered = SafetyFilter(base(["x", "turn"], {"lower": [-0.1, -1.0], "upper": [0.5, 1.0]}))
    assert passed(filtered, 1, -0.4, 2.0) == [-0.1, 1.0]


def test_a_workspace_in_the_odometry_s_frame_fences_the_base_in_whatever_it_faces() -> None:
    from vla_ros.safety import Measured

    limits = {"workspace": {"min": [-1, -1, -1], "max": [1, 1, 1]}}
    filtered = SafetyFilter(base(["x", "turn"], limits))
    north = np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)])
    at_the_fence = Measured(position=np.array([0.0, 0.99, 0.0]), orientation=north)
    result = filtered.filter(command(1, 1.0, 0.3), at_the_fence)
    assert result.command is not None
    assert result.command.action == pytest.approx([0.2, 0.3])  # 1 cm in 50 ms
    assert result.interventions == ("workspace",)
