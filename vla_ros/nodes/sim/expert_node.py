"""The demonstrator: drives the simulated robot with the task's scripted policy, through the policy's own topic.

Owns the wiring alone; what to do is `vla_ros.sim.expert`. Each privileged state is answered at once, by two
messages stamped with its tick: the command on the contract's EndEffectorAction sink, with noise where noise is
asked for, and the noise-free intention on the contract's record topic, which is what a policy learns.
"""

import sys
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Vector3
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray

from vla_ros.contract import RobotContract, load_contract
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.messages.qos import to_profile
from vla_ros.nodes.common.parameters import ParameterRow, declare_parameters
from vla_ros.nodes.common.process import run_node
from vla_ros.nodes.sim.publishers import time_message
from vla_ros.nodes.sim.sim_robot_node import config_path
from vla_ros.sim.expert import Demonstrator, ExpertAction
from vla_ros_msgs.msg import EndEffectorAction, EpisodeStatus

PARAMETERS: tuple[ParameterRow, ...] = (
    ParameterRow(
        "contract",
        "config/robots/metaworld_sawyer.yaml",
        "Contract file of the robot: a path, or a file shipped with the package",
    ),
    ParameterRow("policy", "expert", "The task's scripted policy, or uniform actions", choices=("expert", "random")),
    ParameterRow(
        "noise_std",
        0.0,
        "Standard deviation of noise on the motion; holds from the next episode",
        unit="of MetaWorld's action, 1.0 is 1 cm a period",
        minimum=0.0,
        read_only=False,
    ),
    ParameterRow(
        "noise_hold_ticks",
        1,
        "Periods for which one draw of the noise holds; holds from the next episode",
        minimum=1,
        read_only=False,
    ),
    ParameterRow("seed", 0, "Seed of noise and random actions, together with the episode's", minimum=0),
)
"""Those that may change are read at the start of each episode."""

_COMMAND_TYPE = "vla_ros_msgs/msg/EndEffectorAction"


class ExpertNode(Node):
    """See the module.

    Raises:
        UserError: A parameter or the contract is wrong, or the contract is not of displacements in EndEffectorAction.
    """

    def __init__(self) -> None:
        super().__init__("expert")
        values: dict[str, Any] = declare_parameters(self, PARAMETERS)
        self.add_on_set_parameters_callback(_check_parameters)
        self._contract = load_contract(config_path(values["contract"]))
        sink = _command_sink(self._contract)
        record = self._contract.action.record
        self._demonstrator: Demonstrator | None = None
        self._task, self._episode, self._episode_seed = "", 0, 0
        self._waiting: Float64MultiArray | None = None
        self._command_publisher = self.create_publisher(EndEffectorAction, sink.topic, to_profile(sink.qos))
        self._record_publisher = self.create_publisher(EndEffectorAction, record.topic, to_profile(record.qos))
        self.create_subscription(EpisodeStatus, "/sim/episode_status", self._on_status, QoSProfile(depth=10))
        self.create_subscription(Float64MultiArray, "/sim/privileged_state", self._on_state, QoSProfile(depth=1))

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _make_demonstrator(self, task: str) -> Demonstrator:
        return Demonstrator(
            task,
            self._value("policy"),
            float(self._value("noise_std")),
            self._value("noise_hold_ticks"),
            self._value("seed"),
        )

    def _on_status(self, message: EpisodeStatus) -> None:
        if (message.task, message.episode) == (self._task, self._episode):
            return
        self._task, self._episode = message.task, message.episode
        self._demonstrator = self._make_demonstrator(message.task)
        self._demonstrator.begin_episode(message.seed)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._on_state(waiting)

    def _on_state(self, message: Float64MultiArray) -> None:
        state = np.asarray(message.data)
        if self._demonstrator is None or int(state[41]) != self._episode:
            self._waiting = message  # the status that names its episode is still on its way
            return
        self._publish(self._demonstrator.decide(state[:39]), int(state[39]) * NANOSECONDS + int(state[40]))

    def _publish(self, action: ExpertAction, tick_ns: int) -> None:
        command, intention = self._message(action.executed, tick_ns), self._message(action.intended, tick_ns)
        # The intention first: a recorder that sees the command has then been sent both.
        self._record_publisher.publish(intention)
        self._command_publisher.publish(command)

    def _message(self, action: NDArray[np.float64], tick_ns: int) -> EndEffectorAction:
        spec = self._contract.action
        gripper = spec.gripper
        message = EndEffectorAction(representation=EndEffectorAction.DISPLACEMENT)
        message.header.stamp = time_message(tick_ns)
        message.header.frame_id = spec.frame
        x, y, z, closing = map(float, action)
        message.linear = Vector3(x=x, y=y, z=z)
        share = (closing + 1.0) / 2.0  # MetaWorld's −1 … 1 → 0 open … 1 closed
        message.gripper = float("nan") if gripper is None else gripper.open + share * (gripper.closed - gripper.open)
        message.period = Duration(nanosec=NANOSECONDS // self._contract.fps)
        message.observation_stamp = time_message(tick_ns)
        return message


def _check_parameters(parameters: list[Parameter[Any]]) -> SetParametersResult:
    """Refuse a new value that does not fit its row."""
    rows = {row.name: row for row in PARAMETERS}
    try:
        for parameter in parameters:
            if parameter.name in rows:
                rows[parameter.name].check(parameter.value)
    except ConfigError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _command_sink(contract: RobotContract) -> Any:
    """The contract's EndEffectorAction sink.

    Raises:
        ConfigError: The contract cannot carry the expert's displacements.
    """
    action = contract.action
    sinks = [sink for sink in action.sinks if sink.type == _COMMAND_TYPE]
    if action.representation != "displacement" or not sinks or action.record.type != _COMMAND_TYPE:
        raise ConfigError(
            f"{contract.source}: the expert demonstrates displacements; it needs representation 'displacement' "
            f"(is '{action.representation}'), a sink of type {_COMMAND_TYPE} and a record topic of that type "
            f"(is {action.record.type})"
        )
    return sinks[0]


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run_node(ExpertNode, args)


if __name__ == "__main__":
    sys.exit(main())
