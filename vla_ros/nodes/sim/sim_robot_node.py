"""A simulated robot behind the topics of a contract: sensors out, commands in, like a real robot and its driver.

Owns parameters, services and the wiring. Physics, time and the rules of commands are `vla_ros.sim`'s; callbacks hand
over and return, the simulation has its own threads.

Beside the contract's topics:

- ``/clock`` at every step; it never jumps back, not even over a reset.
- ``/sim/episode_status`` (EpisodeStatus) at every tick and at every reset.
- ``/sim/demonstration`` (Float64MultiArray) at every tick, with the parameter ``demonstrator``: what the robot's own
  expert decides on the simulator's state, for ``expert_node``; see `DEMONSTRATION_LAYOUT`.
- the contract's goal topic, before each episode, with the parameter ``goal_images``.
- ``/tf`` and ``/tf_static`` of robots that have frames.
- services ``/sim/reset_episode`` and ``/sim/set_task``.
"""

import array
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray, Header, MultiArrayDimension

from vla_ros.contract import load_contract
from vla_ros.data_types import NANOSECONDS, ConfigError, UserError
from vla_ros.data_types.resources import resource_path
from vla_ros.nodes.common.parameters import ParameterRow, declare_parameters
from vla_ros.nodes.common.process import run_node, spin_until_signal
from vla_ros.nodes.sim.commands import CommandSubscriber
from vla_ros.nodes.sim.frames import FramePublisher
from vla_ros.nodes.sim.publishers import GoalPublisher, SensorPublishers, time_message
from vla_ros.sim.commands import CommandBuffer
from vla_ros.sim.loop import LoopOptions, SimLoop
from vla_ros.sim.noise import noise_scale
from vla_ros.sim.robot import Robot, SimRequest, make_robot
from vla_ros.sim.unplugged import unplugged_keys
from vla_ros_msgs.msg import EpisodeStatus
from vla_ros_msgs.srv import ResetEpisode, SetTask

DEMONSTRATION = "/sim/demonstration"
DEMONSTRATION_LAYOUT = "action[A], noise_scale[A], stamp_sec, stamp_nanosec, episode"
"""What the numbers on ``/sim/demonstration`` are: the action in the contract's units, what noise of 1 means on each."""

PARAMETERS: tuple[ParameterRow, ...] = (
    ParameterRow(
        "contract",
        "config/robots/metaworld_sawyer.yaml",
        "Contract file of the robot to simulate: a path, or a file shipped with the package",
    ),
    ParameterRow(
        "simulator",
        "",
        "Simulator by name, of those that are installed (`vla_ros parts simulators`); empty for the one that "
        "`sim_config` names, else `metaworld`",
    ),
    ParameterRow(
        "sim_config",
        "",
        "The simulator's file, of MetaWorld which camera, joint or scanner lies behind each input: a path, or a file "
        "shipped with the package; empty for the simulator's own",
    ),
    ParameterRow("task", "", "Task by name, of MetaWorld one of 50; empty for the simulator's own"),
    ParameterRow("seed", 0, "Start state of the first episode", minimum=0),
    ParameterRow(
        "command_interface",
        "",
        "Topic or message type, as `twist`, of the sink that moves the robot; empty for the contract's first that does",
    ),
    ParameterRow(
        "command_timeout_s",
        0.0,
        "Age at which a command is stale: not accepted any more, no longer obeyed; 0 for two periods of the "
        "contract's `fps`",
        unit="s of simulated time",
        minimum=0.0,
    ),
    ParameterRow("real_time_factor", 1.0, "Simulated seconds in a second of wall time", minimum=0.01),
    ParameterRow(
        "lock_step",
        False,
        "Wait at each tick for the command that answers its observation, instead of keeping wall time",
    ),
    ParameterRow(
        "lock_step_timeout_s",
        2.0,
        "After this a tick without an answer passes with the robot halted",
        unit="s of wall time",
        minimum=0.001,
    ),
    ParameterRow(
        "goal_images",
        False,
        "Before each episode publish what the goal's camera sees when the task is done; costs MetaWorld's reset ¼ s",
    ),
    ParameterRow(
        "demonstrator",
        "",
        "Whose decisions to publish at every tick for `expert_node`: the robot's scripted policy, or random actions",
        choices=("", "expert", "random"),
    ),
    ParameterRow(
        "unplugged",
        "",
        "Feature keys of inputs that are not published, with commas between them, as of sensors that are unplugged",
        read_only=False,
    ),
)
"""All but `unplugged` are read when the node starts."""


def config_path(value: str) -> Path:
    """Return the path of a configuration: an existing file, or else one shipped with the package.

    Raises:
        ConfigError: There is neither.
    """
    return Path(value) if Path(value).is_file() else resource_path(value)


class SimRobotNode(Node):
    """See the module.

    Raises:
        UserError: A parameter, the contract or the simulation's configuration is wrong, or this machine cannot render.
    """

    def __init__(self) -> None:
        super().__init__("sim_robot")
        value: dict[str, Any] = declare_parameters(self, PARAMETERS)
        contract = load_contract(config_path(value["contract"]))
        options = LoopOptions(
            value["real_time_factor"],
            value["lock_step"],
            value["lock_step_timeout_s"],
            value["goal_images"],
            value["demonstrator"],
        )
        self._goals = GoalPublisher(self, contract) if options.goals else None
        config = config_path(value["sim_config"]) if value["sim_config"] else None
        request = SimRequest(contract, value["task"], value["seed"], config)

        def make(task: str, seed: int) -> Robot:
            return make_robot(value["simulator"], replace(request, task=task, seed=seed))

        robot = make(request.task, request.seed)
        timeout_ns = round(value["command_timeout_s"] * NANOSECONDS) or 2 * NANOSECONDS // contract.fps
        buffer = CommandBuffer(timeout_ns)
        self._noise_scale = noise_scale(robot, contract)
        self.loop = SimLoop(robot, contract, buffer, self, options=options, make=make)
        self._sensors = SensorPublishers(self, contract, robot)
        self._sensors.unplugged = unplugged_keys(value["unplugged"], contract)
        self._contract = contract
        self.add_on_set_parameters_callback(self._unplug)
        self._frames = FramePublisher(self, robot)
        self._commands = CommandSubscriber(
            self,
            contract,
            value["command_interface"],
            buffer,
            get_robot=lambda: self.loop.robot,
            now_ns=lambda: self.loop.now_ns,
        )
        # Reliable serves both kinds of subscriber; a lost clock step would stall whoever waits for it.
        self._clock_publisher = self.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        self._status_publisher = self.create_publisher(EpisodeStatus, "/sim/episode_status", QoSProfile(depth=10))
        self._demonstrations = self.create_publisher(Float64MultiArray, DEMONSTRATION, QoSProfile(depth=10))
        self.create_service(ResetEpisode, "/sim/reset_episode", self._reset_episode)
        self.create_service(SetTask, "/sim/set_task", self._set_task)

    def _unplug(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "unplugged":
                try:
                    self._sensors.unplugged = unplugged_keys(str(parameter.value), self._contract)
                except ConfigError as reason:
                    return SetParametersResult(successful=False, reason=str(reason))
        return SetParametersResult(successful=True)

    async def _reset_episode(
        self, request: ResetEpisode.Request, response: ResetEpisode.Response
    ) -> ResetEpisode.Response:
        response.success, response.message, response.episode = await self._new_episode(request.seed, None)
        return response

    async def _set_task(self, request: SetTask.Request, response: SetTask.Response) -> SetTask.Response:
        response.success, response.message, _ = await self._new_episode(request.seed, request.task)
        return response

    async def _new_episode(self, seed: int, task: str | None) -> tuple[bool, str, int]:
        """Wait for the simulation thread without holding the executor; success, message, episode."""
        executor = self.executor
        if executor is None:
            raise RuntimeError("a service callback ran without an executor")
        done: Any = Future(executor=executor)

        def finish(result: Any) -> None:
            done.set_result(result)
            executor.wake()  # set from the simulation's thread, it would go unnoticed until the next message

        self.loop.request_episode(seed, task).add_done_callback(finish)
        result = await done
        if result.cancelled():
            return False, "the simulated robot is shutting down", 0
        error = result.exception()
        if error is None:
            return True, "", result.result()
        if not isinstance(error, UserError):
            self.get_logger().error(f"a reset failed: {error!r}")
        return False, str(error) or repr(error), 0

    # SimOutputs: called by the loop from its threads.

    def clock(self, stamp_ns: int) -> None:
        """Publish simulated time."""
        self._clock_publisher.publish(Clock(clock=time_message(stamp_ns)))

    def step(self, robot: Robot, stamp_ns: int) -> None:
        """Publish what is sampled at every step."""
        self._sensors.publish_step(robot, stamp_ns)

    def tick(self, robot: Robot, stamp_ns: int) -> None:
        """Publish what is sampled at a tick and needs no rendering."""
        self._sensors.publish_tick(robot, stamp_ns)
        self._frames.publish(robot, stamp_ns)

    def demonstration(self, action: NDArray[np.float64], stamp_ns: int, episode: int) -> None:
        """Publish what the robot's demonstrator has decided."""
        numbers = np.concatenate((action, self._noise_scale, divmod(stamp_ns, NANOSECONDS), (episode,)))
        message = Float64MultiArray(data=array.array("d", numbers))
        size = len(numbers)
        message.layout.dim = [MultiArrayDimension(label=DEMONSTRATION_LAYOUT, size=size, stride=size)]
        self._demonstrations.publish(message)

    def status(self, robot: Robot, stamp_ns: int, episode: int, elapsed_ns: int, halted: bool) -> None:
        """Publish the state of the episode."""
        self._status_publisher.publish(
            EpisodeStatus(
                header=Header(stamp=time_message(stamp_ns)),
                task=robot.task,
                episode=episode,
                seed=robot.seed,
                success=robot.success,
                reward=float(robot.reward),
                elapsed=elapsed_ns / NANOSECONDS,
                halted=halted,
            )
        )

    def pictures(self, robot: Robot, stamp_ns: int, snapshot: Any) -> None:
        """Publish the images of a tick."""
        self._sensors.publish_images(robot, stamp_ns, snapshot)

    def goal(self, robot: Robot, stamp_ns: int) -> None:
        """Publish the goal of the coming episode."""
        if self._goals is not None:
            self._goals.publish(robot, stamp_ns)

    def warn(self, sentence: str) -> None:
        """Log, at most every two seconds."""
        self.get_logger().warning(sentence, throttle_duration_sec=2.0)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run_node(SimRobotNode, args, _run)


def _run(node: SimRobotNode) -> int:
    """Simulate in a thread of its own while this one serves callbacks.

    Raises:
        UserError: The simulation ended for a reason that a user can mend.
    """
    failure: list[BaseException] = []

    def simulate() -> None:
        try:
            node.loop.run()
        except BaseException as error:  # noqa: BLE001 (raised below, in the main thread)
            failure.append(error)

    simulation = threading.Thread(target=simulate, name="simulation")
    simulation.start()
    try:
        spin_until_signal(node, simulation.is_alive)
    finally:
        node.loop.stop()
        simulation.join()
    if failure:
        raise failure[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
