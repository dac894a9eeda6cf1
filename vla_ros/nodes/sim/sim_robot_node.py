"""The simulated robot behind the topics of a contract: sensors out, commands in, like a real arm and its driver.

Owns parameters, services and the wiring. The physics is `vla_ros.sim`, time is `sim_loop`, messages are
`sim_publishers` and `sim_commands`. Callbacks hand over and return; the simulation has its own threads.

Beside the contract's topics:

- ``/clock`` at every step (80 Hz); it never jumps back, not even over a reset.
- ``/sim/episode_status`` (EpisodeStatus) at every tick and at every reset.
- ``/sim/privileged_state`` (Float64MultiArray, 42 numbers) at every tick, for scripted experts only:
  [0:39] MetaWorld's observation with the goal visible, [39] and [40] seconds and nanoseconds of the tick,
  [41] the episode.
- the contract's goal topic, before each episode, with the parameter ``goal_images``.
- services ``/sim/reset_episode`` and ``/sim/set_task``.
"""

import array
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray, Header, MultiArrayDimension

from vla_ros.contract import load_contract
from vla_ros.data_types import NANOSECONDS, ConfigError, UserError
from vla_ros.data_types.resources import resource_path
from vla_ros.nodes.common.parameters import ParameterRow, declare_parameters
from vla_ros.nodes.common.process import run_node, spin_until_signal
from vla_ros.nodes.sim.commands import INTERFACES, CommandSubscriber
from vla_ros.nodes.sim.frames import FramePublisher
from vla_ros.nodes.sim.publishers import SensorPublishers, goal_publisher, time_message
from vla_ros.sim.commands import CommandBuffer
from vla_ros.sim.config import load_sim_config
from vla_ros.sim.egl import require_rendering
from vla_ros.sim.loop import LoopOptions, SimLoop
from vla_ros.sim.metaworld_robot import STEP_NS, MetaWorldRobot
from vla_ros_msgs.msg import EpisodeStatus
from vla_ros_msgs.srv import ResetEpisode, SetTask

PRIVILEGED_LAYOUT = "metaworld_observation[39], stamp_sec, stamp_nanosec, episode"
"""What the numbers on ``/sim/privileged_state`` are."""

PARAMETERS: tuple[ParameterRow, ...] = (
    ParameterRow(
        "contract",
        "config/robots/metaworld_sawyer.yaml",
        "Contract file of the robot to simulate: a path, or a file shipped with the package",
    ),
    ParameterRow(
        "sim_config",
        "config/sim/metaworld_sawyer.yaml",
        "Which simulated camera, joint or scanner lies behind each input: a path, or a file shipped with the package",
    ),
    ParameterRow("task", "push-v3", "MetaWorld task, one of 50"),
    ParameterRow("seed", 0, "Start state of the first episode", minimum=0),
    ParameterRow(
        "command_interface",
        "end_effector_action",
        "Which of the contract's sinks moves the arm",
        choices=tuple(INTERFACES),
    ),
    ParameterRow(
        "command_timeout_s",
        0.1,
        "Age at which a command is stale: not accepted any more, no longer obeyed",
        unit="s of simulated time",
        minimum=0.0125,
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
        "After this a tick without an answer passes with the arm halted",
        unit="s of wall time",
        minimum=0.001,
    ),
    ParameterRow(
        "goal_images",
        False,
        "Before each episode publish what the goal's camera sees when the scripted expert is done; costs a reset ¼ s",
    ),
)
"""All are read when the node starts."""


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
        config = load_sim_config(config_path(value["sim_config"]))
        if config.cameras:
            require_rendering()
        options = LoopOptions(
            value["real_time_factor"], value["lock_step"], value["lock_step_timeout_s"], value["goal_images"]
        )
        if options.goals and contract.goal is None:
            raise ConfigError(f"parameter 'goal_images' is set, but {contract.source} has no goal; add one.")
        buffer = CommandBuffer(contract.action.frame, round(value["command_timeout_s"] * NANOSECONDS), STEP_NS)
        robot = MetaWorldRobot(value["task"], config, value["seed"])
        self.loop = SimLoop(robot, contract, buffer, self, options)
        self._goal_publisher = goal_publisher(self, contract, config) if options.goals else None
        self._sensors = SensorPublishers(self, contract, config, lambda: self.loop.robot)
        self._frames = FramePublisher(self, contract, config, lambda: self.loop.robot)
        self._commands = CommandSubscriber(self, contract, value["command_interface"], buffer, lambda: self.loop.now_ns)
        # Reliable serves both kinds of subscriber; a lost clock step would stall whoever waits for it.
        self._clock_publisher = self.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        self._status_publisher = self.create_publisher(EpisodeStatus, "/sim/episode_status", QoSProfile(depth=10))
        self._privileged_publisher = self.create_publisher(
            Float64MultiArray, "/sim/privileged_state", QoSProfile(depth=10)
        )
        self.create_service(ResetEpisode, "/sim/reset_episode", self._reset_episode)
        self.create_service(SetTask, "/sim/set_task", self._set_task)

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

    def imu(self, stamp_ns: int) -> None:
        """Publish the IMU."""
        self._sensors.publish_imu(stamp_ns)

    def tick(self, stamp_ns: int) -> None:
        """Publish what is sampled at a tick and needs no rendering."""
        state = np.append(self.loop.robot.privileged_observation, (*divmod(stamp_ns, NANOSECONDS), self.loop.episode))
        message = Float64MultiArray(data=array.array("d", state))
        message.layout.dim = [MultiArrayDimension(label=PRIVILEGED_LAYOUT, size=len(state), stride=len(state))]
        self._privileged_publisher.publish(message)
        self._sensors.publish_state(stamp_ns)
        self._frames.publish(stamp_ns)

    def status(self, stamp_ns: int, episode: int, elapsed_ns: int, halted: bool) -> None:
        """Publish the state of the episode."""
        robot = self.loop.robot
        self._status_publisher.publish(
            EpisodeStatus(
                header=Header(stamp=time_message(stamp_ns)),
                task=robot.task,
                episode=episode,
                seed=robot.seed,
                success=robot.success,
                reward=robot.reward,
                elapsed=elapsed_ns / NANOSECONDS,
                halted=halted,
            )
        )

    def images(self, stamp_ns: int, model: Any, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Publish rendered images."""
        self._sensors.publish_images(stamp_ns, model, images)

    def goal(self, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """Publish the goal of the coming episode."""
        if self._goal_publisher is not None:
            self._goal_publisher(stamp_ns, image)

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
