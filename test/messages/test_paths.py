"""Paths of waypoints, as an input, a recorded action and a command."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import PointsSpec
from vla_ros.data_types import ActionChunk, ContractError, DecodeError
from vla_ros.messages import decode_action
from vla_ros.messages.forms.paths import decode_path

FORM = PointsSpec(4, ("x", "y", "yaw"))
PATH = "nav_msgs/msg/Path"


def waypoint(x: float, y: float, yaw: float, frame: str = "map") -> Any:
    turn = SimpleNamespace(x=0.0, y=0.0, z=math.sin(yaw / 2), w=math.cos(yaw / 2))
    pose = SimpleNamespace(position=SimpleNamespace(x=x, y=y, z=0.3), orientation=turn)
    return SimpleNamespace(header=SimpleNamespace(frame_id=frame), pose=pose)


def path(*waypoints: Any, frame: str = "map") -> Any:
    return SimpleNamespace(header=SimpleNamespace(frame_id=frame), poses=list(waypoints))


def test_a_waypoint_is_x_y_and_yaw_and_what_is_missing_is_nan() -> None:
    value = decode_path(FORM, path(waypoint(1.0, 2.0, 0.5), waypoint(3.0, 4.0, -3.0)), "/plan")
    np.testing.assert_allclose(value[:2], [[1, 2, 0.5], [3, 4, -3.0]], rtol=1e-6)
    assert value.dtype == np.float32
    assert np.isnan(value[2:]).all()


@pytest.mark.parametrize("yaw", [-3.1, -1.0, 0.0, 2.0, 3.1])
def test_yaw_is_the_turn_about_z_whatever_the_quaternion_s_sign(yaw: float) -> None:
    sent = waypoint(0.0, 0.0, yaw)
    turn = sent.pose.orientation
    turn.z, turn.w = -turn.z, -turn.w
    assert decode_path(FORM, path(sent), "/plan")[0, 2] == pytest.approx(yaw, abs=1e-6)


def test_of_too_many_waypoints_the_first_and_the_goal_are_kept() -> None:
    many = path(*(waypoint(float(k), 0.0, 0.0) for k in range(101)))
    np.testing.assert_array_equal(decode_path(FORM, many, "/plan")[:, 0], [0, 33, 67, 100])
    assert decode_path(PointsSpec(1, ("x",)), many, "/plan").tolist() == [[100.0]]


def test_no_plan_is_all_nan() -> None:
    assert np.isnan(decode_path(FORM, path(), "/plan")).all()


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (
            path(waypoint(0, 0, 0), waypoint(1, 0, 0, "odom")),
            r"waypoint 1: frame_id is 'odom', the contract says 'map'",
        ),
        (path(waypoint(math.nan, 0, 0)), "waypoint 0: 'x' is nan, not a finite number"),
        (path(waypoint(0, math.inf, 0)), "waypoint 0: 'y' is inf"),
    ],
)
def test_a_waypoint_that_is_none_is_refused(sent: Any, sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence):
        decode_path(FORM, sent, "/plan")


def test_a_waypoint_without_orientation_has_no_yaw_but_a_position() -> None:
    sent = waypoint(1.0, 2.0, 0.0)
    sent.pose.orientation.w = 0.0
    with pytest.raises(DecodeError, match="quaternion of length 0"):
        decode_path(FORM, path(sent), "/plan")
    assert decode_path(PointsSpec(1, ("x", "y")), path(sent), "/plan").tolist() == [[1.0, 2.0]]


def test_waypoints_may_leave_their_own_frame_empty() -> None:
    assert decode_path(FORM, path(waypoint(1.0, 0.0, 0.0, "")), "/plan")[0, 0] == 1.0


def pose_contract(make_contract: Any, **action: Any) -> Any:
    names = ["x", "y", "z", "qx", "qy", "qz", "qw"]
    fields = {
        "representation": "pose",
        "rotation": "quaternion",
        "names": names,
        "units": ["m"] * 3 + ["1"] * 4,
        "gripper": None,
        "record": {"topic": "/teleop/waypoint", "type": PATH, "max_age_s": 0.5},
        "sinks": [{"topic": "/plan", "type": PATH}],
    }
    return make_contract(action={**fields, **action})


def test_a_recorded_waypoint_is_the_action_and_a_plan_of_many_is_refused(make_contract: Any) -> None:
    action = pose_contract(make_contract).action
    one = path(waypoint(1.0, 2.0, 1.0, "base_link"), frame="base_link")
    np.testing.assert_allclose(
        decode_action(action, PATH, one), [1.0, 2.0, 0.3, 0.0, 0.0, math.sin(0.5), math.cos(0.5)], atol=1e-12
    )
    two = path(*one.poses, *one.poses, frame="base_link")
    with pytest.raises(DecodeError, match="one waypoint a message, got 2"):
        decode_action(action, PATH, two)


def test_a_path_sends_every_step_of_a_prediction_with_the_moment_at_which_it_is_reached(make_contract: Any) -> None:
    pytest.importorskip("nav_msgs.msg")
    from vla_ros.messages.encoders import encode_chunk

    contract = pose_contract(make_contract)
    rows = np.array([[0.1 * k, 0.0, 0.0, 0.0, 0.0, math.sin(0.1), math.cos(0.1)] for k in range(3)])
    message = encode_chunk(contract.action.sinks[0], contract, ActionChunk(rows, 10**9, 50_000_000, 3))
    assert message.header.frame_id == "base_link"
    assert [pose.header.stamp.nanosec for pose in message.poses] == [50_000_000, 100_000_000, 150_000_000]
    first = path(message.poses[1], frame="base_link")
    np.testing.assert_allclose(decode_action(contract.action, PATH, first), rows[1], atol=1e-12)


def test_a_path_cannot_carry_an_action_without_orientation(make_contract: Any) -> None:
    record = {"topic": "/r", "type": "vla_ros_msgs/msg/EndEffectorAction", "max_age_s": 0.1}
    names = {"names": ["x", "y", "z"], "units": ["m"] * 3, "rotation": "none", "record": record}
    with pytest.raises(ContractError, match="nav_msgs/msg/Path carries an orientation, and the action's rotation is"):
        pose_contract(make_contract, **names)
