"""The same messages give the same commands in process, in the node's threads and in a replay: there is one runtime.

What the simulated robot sends during an in-process rollout is kept, and given once more to the threads that the policy
node runs and to the replay of a bag. `test_every_architecture` holds the node itself, over DDS, to the same.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)  # before mujoco, whose backend it chooses

from vla_ros.bags import BagMessage
from vla_ros.checkpoint import load_checkpoint
from vla_ros.contract import load_contract
from vla_ros.evaluation.replay_run import EpisodeReplay
from vla_ros.messages.message_types import deserialize
from vla_ros.rollouts.in_process import START_NS, PolicyDriver, run_in_process
from vla_ros.runtime import (
    EXECUTION_MODES,
    ControlOutput,
    ManualClock,
    PolicyRuntime,
    RuntimeOptions,
    RuntimeThreads,
    TorchPredictor,
)
from vla_ros.sim import SimRequest, make_robot

sys.path.insert(0, str(Path(__file__).parent))
from tiny_policies import save_tiny_policy

pytestmark = [pytest.mark.egl]

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = load_contract(ROOT / "config/robots/metaworld_sawyer.yaml")
TICKS = 10
CAMERAS = ("observation.images.front", "observation.images.wrist")
POLICIES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "with state": ("bc_gru", None),
    "without state": ("bc_cnn", CAMERAS),
    "with a goal": ("grp_goal", None),
}

Message = tuple[int, BagMessage]
Drive = Callable[[Path, RuntimeOptions], tuple[list[Message], np.ndarray]]


@pytest.fixture(scope="module")
def in_process() -> Iterator[Drive]:
    """Roll out in process; return the messages that the runtime was given, and the commands."""
    robot = make_robot("metaworld", SimRequest(CONTRACT))

    def drive(checkpoint: Path, options: RuntimeOptions) -> tuple[list[Message], np.ndarray]:
        predictor = TorchPredictor(load_checkpoint(checkpoint), seed=0)
        driver = PolicyDriver(CONTRACT, predictor, options)
        messages: list[Message] = []
        push, specs = driver.runtime.push, driver.runtime.specs

        def keep(index: int, raw: bytes, receive_ns: int) -> None:
            messages.append(
                (index, BagMessage(topic=specs[index].topic, type=specs[index].type, receive_ns=receive_ns, raw=raw))
            )
            push(index, raw, receive_ns)

        driver.runtime.push = keep  # type: ignore[method-assign]
        limit_s = TICKS / CONTRACT.fps
        (trace,) = run_in_process(robot, CONTRACT, driver, episodes=1, first_seed=3, time_limit_s=limit_s)
        assert trace.dropped == {}
        return messages, np.stack([command.action for command in trace.commands])

    yield drive
    robot.close()


def in_threads(checkpoint: Path, options: RuntimeOptions, messages: list[Message]) -> np.ndarray:
    """Give the messages, tick by tick, to the threads that the policy node runs."""
    clock = ManualClock(START_NS)
    predictor = TorchPredictor(load_checkpoint(checkpoint), seed=0)
    runtime = PolicyRuntime(CONTRACT, predictor, deserialize, clock, options)
    commands: list[Any] = []
    answered = threading.Event()

    def publish(output: ControlOutput) -> None:
        if output.command is not None and output.decided:
            commands.append(output.command.action)
            answered.set()

    threads = RuntimeThreads(runtime, publish, lambda: True)
    threads.start()
    try:
        for number, (index, message) in enumerate(messages):
            clock.set(message.receive_ns)
            runtime.push(index, message.raw, message.receive_ns)
            is_last = number + 1 == len(messages) or messages[number + 1][1].receive_ns != message.receive_ns
            if is_last and message.receive_ns > START_NS:  # all samples of a tick are there
                threads.notify()
                assert answered.wait(30.0)
                answered.clear()
    finally:
        threads.stop()
    return np.stack(commands)


def in_replay(checkpoint: Path, options: RuntimeOptions, messages: list[Message]) -> np.ndarray:
    """Play the messages as a bag."""
    loaded = load_checkpoint(checkpoint)
    run = EpisodeReplay(CONTRACT, loaded, deserialize, latency_ns=0, options=options, seed=0)
    trace = run.over(message for _, message in messages)
    return np.stack(list(trace.commands.values()))


@pytest.fixture(scope="module", params=POLICIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, inputs = POLICIES[request.param]
    return save_tiny_policy(name, tmp_path_factory.mktemp("policy"), CONTRACT, inputs)


@pytest.mark.parametrize("chunk_mode", EXECUTION_MODES)
def test_the_same_messages_give_the_same_commands_wherever_the_runtime_runs(
    in_process: Drive, checkpoint: Path, chunk_mode: str
) -> None:
    options = RuntimeOptions(chunk_mode=chunk_mode, n_action_steps=3, lock_step=True)
    messages, expected = in_process(checkpoint, options)
    assert len(expected) == TICKS
    assert len(np.unique(expected, axis=0)) > 1, "these weights do not look at the robot"
    np.testing.assert_array_equal(in_threads(checkpoint, options, messages), expected)
    np.testing.assert_array_equal(in_replay(checkpoint, options, messages), expected)


def test_every_chunk_mode_commands_something_else(in_process: Drive, tmp_path: Path) -> None:
    checkpoint = save_tiny_policy("bc_gru", tmp_path, CONTRACT)
    modes = [in_process(checkpoint, RuntimeOptions(chunk_mode=mode, n_action_steps=3))[1] for mode in EXECUTION_MODES]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert not np.array_equal(modes[first], modes[second])
