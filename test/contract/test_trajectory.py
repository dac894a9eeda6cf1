"""A contract whose action is a trajectory: what it may say, what is sent, and what is recorded."""

import math
from typing import Any

import numpy as np
import pytest

from test.runtime.test_path_tracking import Base, content, make_contract
from vla_ros.contract import measured_sources, parse_contract
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command, ContractError
from vla_ros.messages.encoders import check_sinks, encode_chunk, encode_command
from vla_ros.messages.message_types import deserialize
from vla_ros.streams.action_stream import ActionStream
from vla_ros.streams.blending import action_blend


def test_commands_are_twists_in_the_base_frame_and_predictions_waypoints() -> None:
    contract = make_contract()
    commanded = contract.commanded
    assert (commanded.action.representation, commanded.action.frame) == ("planar_twist", "base_link")
    assert commanded.action.limits == contract.action.limits
    assert contract.features["action"].names == ("x", "y", "yaw")
    assert contract.commanded.commanded == commanded


def test_the_base_is_measured_by_the_odometry_in_its_frame() -> None:
    assert measured_sources(make_contract()).base == ((0, 0), (0, 1), (0, 2), (0, 3))


def test_path_and_twist_say_the_same_robot_in_their_own_words() -> None:
    pytest.importorskip("nav_msgs")
    contract = make_contract()
    check_sinks(contract)
    path, cmd_vel = contract.action.sinks
    chunk = ActionChunk(np.array([[0.5, 0.2, 1.0], [1.0, 0.4, -2.0]]), 0, NANOSECONDS // 10, 1)
    message = encode_chunk(path, contract, chunk)
    assert message.header.frame_id == "odom"
    turn = message.poses[1].pose.orientation
    assert (message.poses[1].pose.position.x, 2 * math.atan2(turn.z, turn.w)) == pytest.approx((1.0, -2.0))
    assert message.poses[0].header.stamp.nanosec == NANOSECONDS // 10  # reached one period after the observation
    twist = encode_command(cmd_vel, contract.commanded, Command(np.array([0.4, -0.3]), 0, NANOSECONDS // 10))
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.4, 0.0, -0.3)


def odometry(stamp_ns: int, x: float, yaw: float) -> bytes:
    return Base((x, 0.0, yaw)).odometry(stamp_ns)


def test_the_recorded_waypoint_of_a_tick_is_where_the_base_was_at_the_next_one() -> None:
    contract = make_contract()
    stream = ActionStream(contract, deserialize)
    period_ns = NANOSECONDS // 10
    for tick in range(5):
        stream.push(odometry(tick * period_ns, 0.1 * tick, 0.2 * tick), tick * period_ns)
    assert stream.value_at(2 * period_ns) == pytest.approx([0.3, 0.0, 0.6])
    assert stream.complete(3 * period_ns)
    assert not stream.complete(4 * period_ns)
    assert stream.value_at(4 * period_ns + 3 * NANOSECONDS) is None


def test_yaw_is_blended_the_shorter_way_round() -> None:
    blend = action_blend(make_contract().action)
    value = blend(np.array([0.0, 0.0, 3.0]), np.array([1.0, 0.0, -3.0]), 0.5)
    assert value == pytest.approx([0.5, 0.0, -math.pi], abs=1e-9) or value == pytest.approx([0.5, 0.0, math.pi])


def test_next_state_counts_in_the_hash() -> None:
    record = {"topic": "/odom", "type": "nav_msgs/msg/Odometry", "max_age_s": 0.3}
    assert make_contract().hash != make_contract(record=record).hash
    assert make_contract().hash == make_contract(tracker={"lookahead_m": 1.0}).hash


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": "base_link"}, "fixed frame like odom"),
        ({"names": ["x", "y"], "units": ["m", "m"]}, "x, y and yaw"),
        ({"rotation": "quaternion"}, "no meaning for a trajectory"),
        ({"limits": {"max_angular_speed": 1.0}}, "max_speed is required"),
        ({"limits": {"max_speed": 1.0, "max_angular_speed": 1.0, "lower": [0, 0, 0], "upper": [1, 1, 1]}}, "max_speed"),
        ({"limits": {"max_speed": 1.0, "max_angular_speed": 1.0, "max_joint_speed": [1, 1, 1]}}, "bounds joints"),
        ({"frame": "map"}, "no Odometry or PoseStamped input with frame 'map'"),
        ({"measured": {"base": {"key": "observation.state", "names": ["a", "b", "c"]}}}, "'a' is not a number"),
        (
            {"measured": {"position": {"key": "observation.state", "names": ["a", "b", "c"]}}},
            "no meaning for a trajectory",
        ),
        ({"tracker": {"lookahead_m": 0}}, "must be above 0"),
        ({"sinks": [{"topic": "/q", "type": "std_msgs/msg/Float64MultiArray"}]}, "cannot carry a trajectory"),
    ],
)
def test_a_trajectory_that_cannot_be_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        make_contract(**changes)


def test_other_actions_have_no_tracker_and_no_next_state() -> None:
    twist = {
        "representation": "planar_twist", "names": ["v", "w"], "units": ["m/s", "rad/s"], "frame": "base_link",
        "record": {"topic": "/cmd_vel", "type": "geometry_msgs/msg/TwistStamped", "max_age_s": 0.3},
        "sinks": [{"topic": "/cmd_vel", "type": "geometry_msgs/msg/Twist"}],
    }  # fmt: skip
    with pytest.raises(ContractError, match="tracker"):
        make_contract(**twist)
    whole = content(**twist)
    whole["action"].pop("tracker")
    whole["action"]["record"]["next_state"] = True
    with pytest.raises(ContractError, match="absolute action"):
        parse_contract(whole, "base.yaml")
