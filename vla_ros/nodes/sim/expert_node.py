"""The demonstrator: drives a simulated robot as its own expert decides, through the policy's own topics.

Owns noise and wiring. What to do is decided beside the simulator's state, by the robot that `sim_robot_node` runs, and
comes on ``/sim/demonstration``. Each decision is answered at once by messages stamped with its tick: the command on the
sink that moves the robot, with noise where noise is asked for, and the noise-free intention on the contract's record
topics, which is what a policy learns.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray

from vla_ros.contract import RecordSpec, RobotContract, SinkSpec, load_contract
from vla_ros.contract.types import message_types
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command, ConfigError
from vla_ros.messages.encoders import carries_chunks, encode_chunk, encode_command, is_telemetry, message_class
from vla_ros.messages.qos import to_profile
from vla_ros.nodes.common.parameters import ParameterRow, declare_parameters
from vla_ros.nodes.common.process import run_node
from vla_ros.nodes.sim.sim_robot_node import DEMONSTRATION, config_path
from vla_ros.sim.noise import ActionNoise
from vla_ros_msgs.msg import EpisodeStatus

PARAMETERS: tuple[ParameterRow, ...] = (
    ParameterRow(
        "contract",
        "config/robots/metaworld_sawyer.yaml",
        "Contract file of the robot: a path, or a file shipped with the package",
    ),
    ParameterRow(
        "noise_std",
        0.0,
        "Standard deviation of noise on what is executed; holds from the next episode",
        unit="of what the robot says is its action's range: half the range of the contract's limits, of MetaWorld 1 cm "
        "a period",
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
    ParameterRow("seed", 0, "Seed of the noise, together with the episode's", minimum=0),
)
"""Those that may change are read at the start of each episode."""

Publish = Callable[[NDArray[np.float64], int], None]
"""Sends an action, float64 [A], for a tick."""


class ExpertNode(Node):
    """See the module.

    Raises:
        UserError: A parameter or the contract is wrong, or no message of the record can carry the action.
    """

    def __init__(self) -> None:
        super().__init__("expert")
        values: dict[str, Any] = declare_parameters(self, PARAMETERS)
        self.add_on_set_parameters_callback(_check_parameters)
        contract = load_contract(config_path(values["contract"]))
        self._contract = contract.commanded
        self._command = [self._publisher(sink) for sink in _command_sinks(contract)]
        own = {spec.topic for spec in contract.inputs}  # what the robot itself publishes needs no demonstrator
        records = [record for record in contract.action.records if record.topic not in own]
        self._record = [self._publisher(_as_sink(record, contract)) for record in records]
        self._episode, self._episode_seeds = 0, dict[int, int]()
        self._noise: ActionNoise | None = None
        self._waiting: Float64MultiArray | None = None
        self.create_subscription(EpisodeStatus, "/sim/episode_status", self._on_status, QoSProfile(depth=10))
        self.create_subscription(Float64MultiArray, DEMONSTRATION, self._on_decision, QoSProfile(depth=1))

    def _publisher(self, sink: SinkSpec) -> Publish:
        publisher = self.create_publisher(message_class(sink.type), sink.topic, to_profile(sink.qos))
        contract, period_ns = self._contract, NANOSECONDS // self._contract.fps
        if carries_chunks(sink.type):
            return lambda action, tick_ns: publisher.publish(
                encode_chunk(sink, contract, ActionChunk(np.array(action)[None], tick_ns, period_ns, 1))
            )
        return lambda action, tick_ns: publisher.publish(
            encode_command(sink, contract, Command(action, tick_ns, period_ns, tick_ns))
        )

    def _on_status(self, message: EpisodeStatus) -> None:
        if message.episode in self._episode_seeds:
            return
        self._episode_seeds = {message.episode: message.seed}
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._on_decision(waiting)

    def _on_decision(self, message: Float64MultiArray) -> None:
        numbers, size = np.asarray(message.data), len(self._contract.action.names)
        if len(numbers) != 2 * size + 3:
            self.get_logger().error(
                f"{DEMONSTRATION} carries {len(numbers)} numbers, the contract's action needs {2 * size + 3}: the "
                "simulated robot has another contract",
                throttle_duration_sec=2.0,
            )
            return
        episode = int(numbers[-1])
        if episode not in self._episode_seeds:
            self._waiting = message  # the status that names its episode is still on its way
            return
        if episode != self._episode or self._noise is None:
            self._episode, self._noise = episode, self._begun(numbers[size : 2 * size], self._episode_seeds[episode])
        intended = numbers[:size]
        self._publish(intended, self._noise(intended, self._contract), _tick_ns(numbers))

    def _begun(self, scale: NDArray[np.float64], episode_seed: int) -> ActionNoise:
        value = {name: self.get_parameter(name).value for name in ("noise_std", "noise_hold_ticks", "seed")}
        noise = ActionNoise(scale, float(value["noise_std"]), value["noise_hold_ticks"], value["seed"])
        noise.begin_episode(episode_seed)
        return noise

    def _publish(self, intended: NDArray[np.float64], executed: NDArray[np.float64], tick_ns: int) -> None:
        # The intention first: a recorder that sees the command has then been sent both.
        for publish in self._record:
            publish(intended, tick_ns)
        for publish in self._command:
            publish(executed, tick_ns)


def _tick_ns(numbers: NDArray[np.float64]) -> int:
    return int(numbers[-3]) * NANOSECONDS + int(numbers[-2])


def _command_sinks(contract: RobotContract) -> list[SinkSpec]:
    """Return the sinks that carry what the robot is told command by command."""
    representation, rows = contract.commanded.action.representation, message_types()
    sinks = [sink for sink in contract.action.sinks if not is_telemetry(sink.type) and not sink.is_action]
    return [
        sink for sink in sinks if (row := rows[sink.type].as_sink) is not None and representation in row.representations
    ]


def _as_sink(record: RecordSpec, contract: RobotContract) -> SinkSpec:
    """Return a record topic as one to publish on.

    Raises:
        ConfigError: Messages of its type are read but never sent.
    """
    row = message_types()[record.type].as_sink
    if row is None or contract.action.representation not in row.representations:
        raise ConfigError(
            f"{contract.source}: action.record is a {record.type}, which cannot be made of a "
            f"{contract.action.representation}; to record demonstrations use a type that is also listed as a sink, see "
            "docs/message_types.md."
        )
    return SinkSpec(record.topic, record.type, record.qos, record.names, ros_names=record.ros_names)


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


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run_node(ExpertNode, args)


if __name__ == "__main__":
    sys.exit(main())
