"""Facts about what a simulated robot is told by the messages of a contract's sinks."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import ActionChunk, Command, ConfigError
from vla_ros.messages.encoders import encode_chunk, encode_command
from vla_ros.sim.command_reader import CommandReader, command_sink
from vla_ros.sim.commands import CommandRefusedError

pytest.importorskip("rclpy")

PERIOD_NS = 100_000_000
STAGE = {
    "robot_type": "stage",
    "fps": 10,
    "inputs": [
        {
            "key": "observation.state",
            "topic": "/joint_states",
            "type": "sensor_msgs/msg/JointState",
            "joints": ["x", "y"],
            "max_age_s": 0.3,
        }
    ],
    "action": {
        "representation": "joint_position",
        "names": ["x", "y"],
        "units": ["m", "m"],
        "record": {"topic": "/commanded", "type": "sensor_msgs/msg/JointState", "max_age_s": 0.3},
        "sinks": [],
    },
}
BASE = {
    **STAGE,
    "action": {
        "representation": "planar_twist",
        "names": ["v", "w"],
        "units": ["m/s", "rad/s"],
        "record": {"topic": "/demonstration", "type": "geometry_msgs/msg/TwistStamped", "max_age_s": 0.3},
        "sinks": [],
    },
}
NOBODY: Any = SimpleNamespace()


def contract(content: dict[str, Any], *types: str) -> RobotContract:
    sinks = [{"topic": f"/commands_{index}", "type": name} for index, name in enumerate(types)]
    return parse_contract({**content, "action": {**content["action"], "sinks": sinks}}, "here.yaml")


@pytest.mark.parametrize(
    ("content", "type_name"),
    [
        (STAGE, "sensor_msgs/msg/JointState"),
        (STAGE, "std_msgs/msg/Float64MultiArray"),
        (BASE, "geometry_msgs/msg/TwistStamped"),
        (BASE, "geometry_msgs/msg/Twist"),
    ],
)
def test_what_the_policy_node_sends_is_what_the_robot_is_told(content: dict[str, Any], type_name: str) -> None:
    robot = contract(content, type_name)
    sink = command_sink(robot, NOBODY)
    message = encode_command(sink, robot, Command(np.array([0.25, -0.5]), 7 * PERIOD_NS, PERIOD_NS))
    (command,) = CommandReader(robot, sink).read(message, NOBODY, 5 * PERIOD_NS)
    np.testing.assert_array_equal(command.order, [0.25, -0.5])
    stamped = "header" in message.get_fields_and_field_types()
    assert command.stamp_ns == (7 if stamped else 5) * PERIOD_NS, "without a stamp, when it came"
    assert command.period_ns == PERIOD_NS
    assert command.observation_stamp_ns is None


def test_a_trajectorys_waypoints_are_commanded_one_period_before_they_are_to_be_reached() -> None:
    robot = contract(STAGE, "trajectory_msgs/msg/JointTrajectory")
    sink = command_sink(robot, NOBODY)
    actions = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    message = encode_chunk(sink, robot, ActionChunk(actions, 7 * PERIOD_NS, PERIOD_NS, 1))
    commands = CommandReader(robot, sink).read(message, NOBODY, 0)
    assert [command.stamp_ns for command in commands] == [7 * PERIOD_NS, 8 * PERIOD_NS, 9 * PERIOD_NS]
    np.testing.assert_array_equal([command.order for command in commands], actions)


def test_numbers_that_a_sink_does_not_carry_are_not_said() -> None:
    content = {**STAGE, "action": {**STAGE["action"], "unsent": ["y"]}}
    sinks = [{"topic": "/x", "type": "sensor_msgs/msg/JointState", "names": ["x"]}]
    robot = parse_contract({**content, "action": {**content["action"], "sinks": sinks}}, "here.yaml")
    sink = command_sink(robot, NOBODY)
    message = encode_command(sink, robot, Command(np.array([0.25, -0.5]), PERIOD_NS, PERIOD_NS))
    (command,) = CommandReader(robot, sink).read(message, NOBODY, 0)
    np.testing.assert_array_equal(command.order, [0.25, np.nan])


def test_a_malformed_message_is_refused_in_the_decoders_words() -> None:
    robot = contract(STAGE, "std_msgs/msg/Float64MultiArray")
    message = SimpleNamespace(data=[1.0], layout=SimpleNamespace(dim=[], data_offset=0))
    with pytest.raises(CommandRefusedError, match=r"expected 2 numbers \(x, y\), got 1"):
        CommandReader(robot, robot.action.sinks[0]).read(message, NOBODY, 0)


def test_a_sink_is_chosen_by_its_topic_or_type_the_first_that_is_read_otherwise() -> None:
    robot = contract(BASE, "vla_ros_msgs/msg/ActionChunk", "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
    assert command_sink(robot, NOBODY).topic == "/commands_1"
    for name in ("/commands_2", "TwistStamped", "twist_stamped", "geometry_msgs/msg/TwistStamped"):
        assert command_sink(robot, NOBODY, name).topic == "/commands_2"
    assert command_sink(robot, NOBODY, "twist").topic == "/commands_1"


def test_a_sink_that_no_robot_reads_or_nobody_has_is_refused() -> None:
    robot = contract(BASE, "vla_ros_msgs/msg/ActionChunk", "geometry_msgs/msg/Twist")
    with pytest.raises(ConfigError, match="can be moved by none of action_chunk"):
        command_sink(robot, NOBODY, "action_chunk")
    with pytest.raises(ConfigError, match=r"'pose' is the topic or type of no sink; action.sinks are /commands_0"):
        command_sink(robot, NOBODY, "pose")
