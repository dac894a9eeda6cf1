"""A rollout: the simulated robot and whatever drives it as separate processes over DDS, episodes driven and measured.

Starts, waits, measures, ends. The measuring is `RolloutClient`'s, the numbers are `vla_ros.evaluation`'s.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vla_ros.checkpoint import read_inputs
from vla_ros.contract import GOAL_IMAGE, load_contract
from vla_ros.data_types import CheckpointError, ConfigError
from vla_ros.evaluation.rollout_report import EpisodeTrace
from vla_ros.rollouts.client import RolloutClient
from vla_ros.rollouts.process_group import ChildProcess, ProcessGroup, node_command
from vla_ros.rollouts.ros_environment import RosDomain, run_environment

Driver = Literal["checkpoint", "expert", "random"]
START_TIMEOUT_S = 90.0
"""Wall time in which a process must be ready: importing torch and MuJoCo on a cold, busy machine takes a while."""
_LINGER_RECORDED_S = 0.5


@dataclass(frozen=True)
class RolloutOptions:
    """What to run.

    Attributes:
        contract: The robot's contract.
        output: Folder for logs.
        task: Name of the task; empty for the simulator's own.
        driver: What commands the robot.
        checkpoint: Folder, for the driver ``checkpoint``.
        episodes: How many.
        first_seed: Episode i starts from start state ``first_seed + i``.
        time_limit_s: Robot time after which an episode has failed.
        lock_step: The robot waits for the driver at every tick: hides all latency.
        chunk_mode: How the policy node executes action chunks.
        record_episodes: Keep the images of this many episodes, from the first.
        domain_id: ROS domain, None for a free one.
        simulator: Name; empty for the one that `sim_config` names, else MetaWorld.
        sim_config: The simulator's file, None for its own.
        unplugged: Feature keys of inputs that the robot does not publish.
    """

    contract: Path
    output: Path
    task: str = ""
    driver: Driver = "checkpoint"
    checkpoint: Path | None = None
    episodes: int = 20
    first_seed: int = 0
    time_limit_s: float = 10.0
    lock_step: bool = False
    chunk_mode: str = "latest"
    record_episodes: int = 0
    domain_id: int | None = None
    simulator: str = ""
    sim_config: Path | None = None
    unplugged: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"episodes={self.episodes} must be at least 1.")
        if self.first_seed < 0:
            raise ConfigError(f"first_seed={self.first_seed} must not be negative.")
        if self.time_limit_s <= 0:
            raise ConfigError(f"time_limit_s={self.time_limit_s:g} must be positive.")
        if (self.driver == "checkpoint") != (self.checkpoint is not None):
            raise ConfigError(f"driver '{self.driver}' and checkpoint {self.checkpoint} contradict each other.")


@dataclass(frozen=True)
class Session:
    """The processes of a running rollout.

    Attributes:
        group: All of them.
        client: The observer.
        robot: The simulated robot.
        driver: What commands it.
    """

    group: ProcessGroup
    client: RolloutClient
    robot: ChildProcess
    driver: ChildProcess


def run_rollout(
    options: RolloutOptions,
    on_episode: Callable[[EpisodeTrace], None],
    on_start: Callable[[str], None] = lambda _: None,
) -> list[EpisodeTrace]:
    """Run all episodes and return their traces.

    Args:
        options: What to run.
        on_episode: Called after each episode.
        on_start: Called with a sentence about what is being waited for, while processes start.

    Raises:
        UserError: A process could not do its part; in its own words.
    """
    traces = []
    with rollout_session(options, on_start) as session:
        for index in range(options.episodes):
            recorded = index < options.record_episodes
            trace = session.client.run_episode(
                session.group,
                session.robot,
                options.first_seed + index,
                time_limit_s=options.time_limit_s,
                linger_s=_LINGER_RECORDED_S if recorded else 0.0,
                with_images=recorded,
            )
            traces.append(trace)
            on_episode(trace)
    return traces


@contextmanager
def rollout_session(options: RolloutOptions, on_start: Callable[[str], None] = lambda _: None) -> Iterator[Session]:
    """Start the robot, its driver and the observer; yield when the driver commands; end everything on leaving.

    Raises:
        UserError: A process could not start; in its own words.
    """
    contract = load_contract(options.contract)
    if options.checkpoint is not None and not options.checkpoint.is_dir():  # said before anything starts
        raise CheckpointError(f"{options.checkpoint}: no such checkpoint folder.")
    domain = RosDomain(options.domain_id)
    environment = run_environment(domain)
    try:
        with ProcessGroup(options.output / "logs", environment) as group:
            robot = group.start("sim_robot_node", node_command("sim_robot_node", robot_parameters(options)))
            driver = _start_driver(group, options)
            with RolloutClient(contract, environment) as client:
                on_start(f"starting the simulated robot and its driver (ROS_DOMAIN_ID {domain.number})")
                group.wait_until(client.robot_is_ready, "publish its status and serve resets", robot, START_TIMEOUT_S)
                is_commanding = _commanding(client, options.driver)
                group.wait_until(is_commanding, "command the robot", driver, START_TIMEOUT_S)
                yield Session(group, client, robot, driver)
    finally:
        domain.release()


def robot_parameters(options: RolloutOptions) -> dict[str, object]:
    """Return the parameters of the simulated robot."""
    return {
        "contract": options.contract.resolve(),
        "simulator": options.simulator,
        "sim_config": "" if options.sim_config is None else options.sim_config.resolve(),
        "task": options.task,
        "seed": options.first_seed,
        "lock_step": options.lock_step,
        "goal_images": options.checkpoint is not None and GOAL_IMAGE in read_inputs(options.checkpoint),
        "unplugged": ",".join(options.unplugged),
        "demonstrator": "" if options.driver == "checkpoint" else options.driver,
    }


def _start_driver(group: ProcessGroup, options: RolloutOptions) -> ChildProcess:
    common = {"contract": options.contract.resolve(), "use_sim_time": True}
    if options.driver != "checkpoint":
        return group.start("expert_node", node_command("expert_node", common))
    parameters = {
        **common,
        "checkpoint": options.checkpoint.resolve() if options.checkpoint is not None else "",
        "autostart": True,
        "enable_control": True,
        "lock_step": options.lock_step,
        "chunk_mode": options.chunk_mode,
        "episode_status_topic": "/sim/episode_status",
        "seed": 0,  # as in process: what policies draw shall not differ from run to run
    }
    return group.start("policy_node", node_command("policy_node", parameters))


def _commanding(client: RolloutClient, driver: Driver) -> Callable[[], bool]:
    if driver == "checkpoint":
        return client.policy_is_commanding
    return lambda: client.commands_seen > 0
