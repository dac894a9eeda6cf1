"""Every architecture in the policy node on the simulated robot: processes of their own, the contract's topics, DDS.

In lock-step the robot waits for each command, so the commands are the policy's and nothing else: they must equal those
of the same checkpoint without any node, to the bit. In real time the robot does not wait, and on a machine that does
other things a process may sleep through a tick. What holds by construction is required of every command; that commands
come at the control rate, of one whole second, for which a slow machine has a minute.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs.msg", reason="the interfaces are not built")
pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)  # before mujoco, whose backend it chooses
torch = pytest.importorskip("torch")

from vla_ros.contract import load_contract  # noqa: E402
from vla_ros.data_types import NANOSECONDS  # noqa: E402
from vla_ros.evaluation.rollout_report import EpisodeTrace  # noqa: E402
from vla_ros.messages.decoders import decode_action  # noqa: E402
from vla_ros.rollouts.client import RolloutClient  # noqa: E402
from vla_ros.rollouts.in_process import make_driver, run_in_process  # noqa: E402
from vla_ros.rollouts.process_group import ChildProcess, ProcessGroup, node_command  # noqa: E402
from vla_ros.rollouts.ros_environment import RosDomain, run_environment  # noqa: E402
from vla_ros.runtime import RuntimeOptions  # noqa: E402
from vla_ros.sim import SimRequest, make_robot  # noqa: E402
from vla_ros_msgs.msg import EndEffectorAction  # noqa: E402
from vla_ros_msgs.srv import LoadPolicy  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from tiny_policies import GOAL_POLICIES, HORIZON, POLICIES, save_tiny_policy  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.egl, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
ROBOT = ROOT / "config/robots/metaworld_sawyer.yaml"
CONTRACT = load_contract(ROBOT)
TASK = "push-v3"
SEED = 3  # of the start state
PERIOD_NS = NANOSECONDS // CONTRACT.control_rate_hz
TICKS = CONTRACT.control_rate_hz  # compared: one second
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Told:
    """One command as it arrived."""

    effect_ns: int
    observation_ns: int
    chunk_id: int
    chunk_index: int
    action: np.ndarray


class Run:
    """A simulated robot and a policy node, which takes up one policy after the other."""

    def __init__(self, group: ProcessGroup, client: RolloutClient, robot: ChildProcess, policy: ChildProcess) -> None:
        self._group, self._client, self._robot, self._policy = group, client, robot, policy
        self._commands: list[Told] = []
        client.node.create_subscription(EndEffectorAction, client.command_sink.topic, self._on_command, 200)
        self._load = client.node.create_client(LoadPolicy, "/policy_node/load_policy")

    def wait_until(self, condition: Callable[[], bool], meaning: str) -> None:
        self._group.wait_until(condition, meaning, self._policy, PATIENCE_S)

    def take_up(self, checkpoint: Path) -> None:
        self.wait_until(self._load.service_is_ready, "serve ~/load_policy")
        answer = self._load.call_async(LoadPolicy.Request(checkpoint=str(checkpoint)))
        self.wait_until(answer.done, "answer ~/load_policy")
        assert answer.result().success, answer.result().message

    def episode(self, duration_s: float) -> tuple[EpisodeTrace, list[Told]]:
        """Return an episode and its commands; a stop is none."""
        self._commands.clear()
        trace = self._client.run_episode(self._group, self._robot, SEED, time_limit_s=duration_s)
        return trace, [command for command in list(self._commands) if command.observation_ns > trace.start_ns]

    def _on_command(self, message: EndEffectorAction) -> None:
        stamps = (
            stamp.sec * NANOSECONDS + stamp.nanosec for stamp in (message.header.stamp, message.observation_stamp)
        )
        action = np.array(decode_action(CONTRACT.action, self._client.command_sink.type, message))
        self._commands.append(Told(*stamps, message.chunk_id, message.chunk_index, action))


@contextmanager
def robot_and_policy_node(
    checkpoint: Path, logs: Path, *, lock_step: bool, goals: bool = False, **parameters: object
) -> Iterator[Run]:
    """Start both, on a domain of their own, and yield when the node commands the robot."""
    domain = RosDomain()
    robot = {"contract": ROBOT, "task": TASK, "lock_step": lock_step, "lock_step_timeout_s": 5.0, "goal_images": goals}
    policy = {
        "contract": ROBOT,
        "checkpoint": checkpoint,
        "use_sim_time": True,
        "autostart": True,
        "enable_control": True,
        "lock_step": lock_step,
        "episode_status_topic": "/sim/episode_status",
        "seed": 0,  # as in process
        "torch_threads": torch.get_num_threads(),  # sums of many numbers depend on it
        **parameters,
    }
    try:
        environment = run_environment(domain)
        with pytest.MonkeyPatch.context() as patch, ProcessGroup(logs, environment) as group:
            for name, value in environment.items():
                patch.setenv(name, value)
            sim_robot_node = group.start("sim_robot_node", node_command("sim_robot_node", robot))
            policy_node = group.start("policy_node", node_command("policy_node", policy))
            with RolloutClient(CONTRACT, environment) as client:
                group.wait_until(client.robot_is_ready, "serve resets", sim_robot_node, PATIENCE_S)
                group.wait_until(client.policy_is_commanding, "command the robot", policy_node, PATIENCE_S)
                yield Run(group, client, sim_robot_node, policy_node)
    finally:
        domain.release()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the node starts with."""
    return save_tiny_policy("bc_cnn", tmp_path_factory.mktemp("first"), CONTRACT)


@pytest.fixture
def checkpoint(name: str, tmp_path: Path) -> Path:
    return save_tiny_policy(name, tmp_path, CONTRACT)


# The scope of all is a class: the robot of one must not take time from another's.
@pytest.fixture(scope="class")
def lock_step(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with robot_and_policy_node(first, tmp_path_factory.mktemp("lock_step"), lock_step=True) as run:
        yield run


@pytest.fixture(scope="class")
def lock_step_with_goals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    checkpoint = save_tiny_policy(GOAL_POLICIES[0], tmp_path_factory.mktemp("first"), CONTRACT)
    with robot_and_policy_node(checkpoint, tmp_path_factory.mktemp("goals"), lock_step=True, goals=True) as run:
        yield run


@pytest.fixture(scope="class")
def real_time(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with robot_and_policy_node(first, tmp_path_factory.mktemp("real_time"), lock_step=False) as run:
        yield run


@pytest.fixture(scope="module")
def drive_in_process() -> Iterator[Callable[..., EpisodeTrace]]:
    robot = make_robot("metaworld", SimRequest(CONTRACT, TASK))

    def drive(checkpoint: Path, options: RuntimeOptions | None = None) -> EpisodeTrace:
        driver = make_driver("checkpoint", CONTRACT, checkpoint=str(checkpoint), options=options)
        limit_s = TICKS / CONTRACT.fps
        (trace,) = run_in_process(robot, CONTRACT, driver, episodes=1, first_seed=SEED, time_limit_s=limit_s)
        return trace

    yield drive
    robot.close()


def assert_possible(commands: list[Told]) -> None:
    """Require finite numbers within the contract's limits."""
    actions = np.stack([command.action for command in commands])
    limits = CONTRACT.action.limits
    assert np.isfinite(actions).all()
    assert (actions >= limits.lower).all()
    assert (actions <= limits.upper).all()


def longest_stretch(steps_ns: "np.ndarray[Any, Any]") -> int:
    """Return how many commands in a row are one period apart."""
    breaks = np.flatnonzero(np.concatenate([[True], steps_ns != PERIOD_NS, [True]]))
    return int(np.diff(breaks).max())


def assert_decides_as_without_a_node(run: Run, drive: Callable[[Path], EpisodeTrace], checkpoint: Path) -> None:
    """Require one command of each tick's own observation, equal to the bit to what is decided in process."""
    expected = [command.action for command in drive(checkpoint).commands]
    trace, commands = run.episode((TICKS + 5) / CONTRACT.fps)
    commands = commands[:TICKS]  # the last ones of an episode may still be under way when it is over
    ticks = [trace.start_ns + number * PERIOD_NS for number in range(1, TICKS + 1)]
    assert [command.observation_ns for command in commands] == ticks
    assert [command.effect_ns for command in commands] == ticks
    assert {command.chunk_index for command in commands} == {0}
    assert_possible(commands)
    assert len(np.unique(expected, axis=0)) > 1, "these weights do not look at the robot"
    np.testing.assert_array_equal([command.action for command in commands], expected)


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in GOAL_POLICIES])
class TestInLockStep:
    """All take turns in one node."""

    def test_every_tick_gets_the_command_that_the_policy_decides_without_a_node(
        self, lock_step: Run, drive_in_process: Callable[[Path], EpisodeTrace], checkpoint: Path
    ) -> None:
        lock_step.take_up(checkpoint)
        assert_decides_as_without_a_node(lock_step, drive_in_process, checkpoint)


@pytest.mark.parametrize("name", GOAL_POLICIES)
class TestInLockStepWithGoals:
    """These need pictures of their goals, to which no other node subscribes."""

    def test_every_tick_gets_the_command_that_the_policy_decides_without_a_node(
        self, lock_step_with_goals: Run, drive_in_process: Callable[[Path], EpisodeTrace], checkpoint: Path
    ) -> None:
        lock_step_with_goals.take_up(checkpoint)
        # No order holds between topics, so a start's first goal may come after its first observation. The second time
        # it is the same picture.
        lock_step_with_goals.episode(1 / CONTRACT.fps)
        assert_decides_as_without_a_node(lock_step_with_goals, drive_in_process, checkpoint)


@pytest.mark.parametrize(
    "parameters",
    [
        {"chunk_mode": "receding_horizon", "n_action_steps": 3},
        {"chunk_mode": "temporal_ensemble"},
        {"inference": "process"},
    ],
)
def test_every_way_of_running_a_policy_gives_over_dds_what_it_gives_in_process(
    parameters: dict[str, Any], drive_in_process: Callable[..., EpisodeTrace], tmp_path: Path
) -> None:
    checkpoint = save_tiny_policy("bc_gru", tmp_path, CONTRACT)
    options = RuntimeOptions(**{name: value for name, value in parameters.items() if name != "inference"})
    expected = [command.action for command in drive_in_process(checkpoint, options).commands]
    with robot_and_policy_node(checkpoint, tmp_path / "logs", lock_step=True, **parameters) as run:
        _, commands = run.episode((TICKS + 5) / CONTRACT.fps)
    np.testing.assert_array_equal([command.action for command in commands[:TICKS]], expected)


@pytest.mark.parametrize("name", ["bc_gru", "act_cvae", "grp", "rt1_sentence", "pi0", "flow_ar_autoregressive"])
class TestInRealTime:
    """Six that differ in kind: of memory, of tokens, of words, of noise, and in how many passes make a chunk."""

    def test_commands_come_at_the_control_rate_from_chunks_indexed_by_time(
        self, real_time: Run, checkpoint: Path
    ) -> None:
        real_time.take_up(checkpoint)
        deadline = time.monotonic() + PATIENCE_S
        longest = 0
        while longest < TICKS:
            assert time.monotonic() < deadline, f"at most {longest} commands in a row, of {TICKS}"
            _, commands = real_time.episode(1.5 * TICKS / CONTRACT.control_rate_hz)
            if not commands:
                continue
            effect_ns = np.array([command.effect_ns for command in commands])
            observation_ns = np.array([command.observation_ns for command in commands])
            index = np.array([command.chunk_index for command in commands])
            assert not (effect_ns % PERIOD_NS).any()
            assert not (observation_ns % PERIOD_NS).any()
            assert (np.diff(effect_ns) > 0).all()
            assert (np.diff([command.chunk_id for command in commands]) >= 0).all()
            np.testing.assert_array_equal(index, (effect_ns - observation_ns) // PERIOD_NS)
            assert (index < HORIZON).all()
            assert_possible(commands)
            longest = max(longest, longest_stretch(np.diff(effect_ns)))
