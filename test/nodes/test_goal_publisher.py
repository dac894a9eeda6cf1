"""A gripper's action server gets a goal when the command changes, and the control thread never waits for it."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("control_msgs.action")

import rclpy
from rclpy.action import ActionServer, GoalResponse
from rclpy.executors import SingleThreadedExecutor

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import Command, ContractError
from vla_ros.messages.encoders import check_sinks, encode_command
from vla_ros.messages.message_class import message_class
from vla_ros.nodes.policy.goal_publisher import GoalPublisher

GRIPPER, PARALLEL = "control_msgs/action/GripperCommand", "control_msgs/action/ParallelGripperCommand"


def contract_of(**sink: Any) -> RobotContract:
    received = {"max_age_s": 0.1, "alignment": {"timeline": "receive"}}
    action = {
        "representation": "twist",
        "names": ["x", "y", "z", "grip"],
        "units": ["m/s"] * 3 + ["1"],
        "gripper": {"name": "grip", "open": -1.0, "closed": 1.0},
        "record": {"topic": "/r", "type": "std_msgs/msg/Float64MultiArray", **received},
        "sinks": [
            {"topic": "/twist", "type": "geometry_msgs/msg/TwistStamped"},
            {"topic": "/gripper", "type": GRIPPER, "names": ["grip"], **sink},
        ],
    }
    inputs = [{"key": "observation.n", "topic": "/n", "type": "std_msgs/msg/Float32", **received}]
    return parse_contract({"robot_type": "r", "fps": 20, "inputs": inputs, "action": action}, "r.yaml")


def goal(contract: RobotContract, value: float) -> Any:
    command = Command(np.array([0.0, 0.0, 0.0, value]), 0, 50_000_000)
    return encode_command(contract.action.sinks[1], contract, command)


def test_the_gripper_moves_between_the_ends_that_the_sink_names() -> None:
    contract = contract_of(open=0.08, closed=0.01, max_effort=20.0)
    check_sinks(contract)
    orders = [goal(contract, value).command for value in (-1.0, 1.0, 0.0, -3.0)]
    assert [order.position for order in orders] == pytest.approx([0.08, 0.01, 0.045, 0.08])
    assert {order.max_effort for order in orders} == {20.0}
    assert goal(contract_of(), 0.25).command.position == pytest.approx(0.25)


def test_a_parallel_gripper_is_told_by_the_name_of_its_joint() -> None:
    contract = contract_of(type=PARALLEL, names={"grip": "finger_joint"}, open=0.04, closed=0.0, max_effort=5.0)
    state = goal(contract, -1.0).command
    assert (list(state.name), list(state.position), list(state.effort)) == (["finger_joint"], [0.04], [5.0])
    assert not goal(contract_of(type=PARALLEL), 0.0).command.effort


@pytest.mark.parametrize(
    ("sink", "error"),
    [
        ({"open": 0.08}, r"sinks\[1\].closed is required and missing; give both ends"),
        ({"open": 0.08, "closed": 0.08}, r"closed must differ from open, both are 0.08"),
        ({"max_effort": -1.0}, r"max_effort must be at least 0"),
        ({"names": ["x"]}, r"control_msgs/action/GripperCommand cannot carry a twist action"),
        ({"names": {"grip": "finger"}}, r"names must be a list: control_msgs/action/GripperCommand does not name"),
    ],
)
def test_a_wrong_gripper_sink_is_refused(sink: dict[str, Any], error: str) -> None:
    with pytest.raises(ContractError, match=error):
        contract_of(**sink)


@pytest.fixture
def graph() -> Iterator[SimpleNamespace]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("gripper_test", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def until(condition: Callable[[], bool]) -> bool:
        for _ in range(1000):
            executor.spin_once(timeout_sec=0.02)
            if condition():
                return True
        return False

    yield SimpleNamespace(node=node, until=until)
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.ros
@pytest.mark.slow
def test_a_goal_is_sent_when_it_changes_and_again_when_it_was_refused(graph: SimpleNamespace) -> None:
    kind, contract = message_class(GRIPPER), contract_of(open=0.08, closed=0.0)
    publisher = GoalPublisher(graph.node, kind, "/gripper")
    publisher.publish(goal(contract, 1.0))  # no server yet
    got: list[float] = []
    answers = [GoalResponse.REJECT]

    def on_goal(request: Any) -> GoalResponse:
        got.append(request.command.position)
        return answers.pop() if answers else GoalResponse.ACCEPT

    def execute(handle: Any) -> Any:
        handle.succeed()
        return kind.Result()

    server = ActionServer(graph.node, kind, "/gripper", execute, goal_callback=on_goal)
    assert graph.until(publisher._client.server_is_ready)
    publisher.publish(goal(contract, 1.0))
    assert graph.until(lambda: publisher.refused == 1)
    for value in (1.0, 1.0, 1.0, -1.0, -1.0):
        publisher.publish(goal(contract, value))
    assert graph.until(lambda: len(got) == 3)
    assert got == pytest.approx([0.0, 0.0, 0.08])
    server.destroy()
    publisher.destroy()
