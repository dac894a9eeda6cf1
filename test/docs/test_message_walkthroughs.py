"""The pages that say how to add a message type and a sink, followed by somebody who changes nothing here.

The message then reaches a policy by every way: bag and converter, replay, and the policy node over DDS.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
from walkthrough import ROOT, follow, python_path

from vla_ros.bags import read_messages
from vla_ros.datasets import EpisodeDataset
from vla_ros.messages.message_types import deserialize
from vla_ros.rollouts.ros_environment import RosDomain, run_environment

pytestmark = pytest.mark.slow

TINY = """
from pathlib import Path
import numpy as np
from vla_ros.checkpoint import save_checkpoint
from vla_ros.contract import load_contract
from vla_ros.policies import build_policy
from vla_ros.processors import ProcessorOptions, Processors

contract = load_contract("gamepad_rover.yaml")
inputs = {"observation.state": contract.features["observation.state"]}
action = contract.features["action"]
bounds = {"min": -1.0, "q01": -1.0, "mean": 0.0, "std": 1.0, "q99": 1.0, "max": 1.0}
statistics = {key: {name: np.full(2, v) for name, v in bounds.items()} for key in ("observation.state", "action")}
processors = Processors(inputs, action, ProcessorOptions(), statistics)
policy = build_policy("bc", {"inputs": processors.policy_inputs, "action": action, "hidden_dims": [8]})
save_checkpoint(Path("tiny"), policy, processors, contract)
"""


def python(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": python_path(folder)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rover")
    follow("add_a_message_type.md", folder)
    return folder


@pytest.fixture(scope="module")
def gamepad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gamepad")
    assert "axes=[0.5, -0.5]" in follow("add_a_sink.md", folder)
    python(folder, "-c", TINY)
    return folder


def test_the_dataset_holds_what_the_new_type_carried_in_the_bag(rover: Path) -> None:
    dataset = EpisodeDataset(rover / "data/rover")
    kind = "sensor_msgs/msg/Temperature"
    for episode, bag in enumerate(sorted((rover / "bags").iterdir())):
        sent = [deserialize(m.raw, kind).temperature for m in read_messages(bag, ["/plate/temperature"])]
        frames = dataset.episode(episode).values["observation.state"]
        np.testing.assert_array_equal(frames, np.array(sent, np.float32)[:, None])


def test_the_replay_shows_every_message_of_the_new_type_to_the_policy(rover: Path) -> None:
    (result,) = (rover / "out/replay").glob("*.json")
    report = json.loads(result.read_text())
    assert report["ticks_compared"] == 40


def test_a_message_that_the_new_decoder_refuses_is_refused_with_its_sentence(rover: Path) -> None:
    script = """
from types import SimpleNamespace
from vla_ros.contract import load_contract
from vla_ros.messages import decode_input
spec = load_contract("rover.yaml").inputs[0]
header = SimpleNamespace(frame_id="thermometer")
try:
    decode_input(spec, SimpleNamespace(header=header, temperature=20.0, variance=-1.0))
except Exception as reason:
    print(type(reason).__name__, reason)
"""
    assert python(rover, "-c", script) == (
        "DecodeError /plate/temperature (observation.state): a variance is never negative, got -1\n"
    )


@pytest.mark.parametrize("page", ["add_a_message_type", "add_a_sink"])
def test_inside_the_repository_the_same_type_is_one_file(page: str, tmp_path: Path, request: Any) -> None:
    folder = request.getfixturevalue({"add_a_message_type": "rover", "add_a_sink": "gamepad"}[page])
    (module,) = folder.glob("my_*/my_*.py")
    (contract,) = folder.glob("*rover.yaml")
    shutil.copytree(ROOT / "vla_ros", tmp_path / "vla_ros", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(module, tmp_path / "vla_ros/messages/types/my_package.py")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "vla_ros.cli", "contract", "check", str(contract)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "a valid contract" in done.stdout, done.stderr


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Any]]]:
    """Let a policy node of another process hear one topic, and return what it commands on another."""
    rclpy = pytest.importorskip("rclpy")
    domain, context = RosDomain(), rclpy.Context()
    variables = {**os.environ, **run_environment(domain)}
    rclpy.init(context=context, domain_id=domain.number)
    processes = []

    def drive(
        folder: Path, *, contract: str, checkpoint: str, topic: str, message: Any, sink: str, kind: Any
    ) -> list[Any]:
        values = {"contract": contract, "checkpoint": checkpoint, "autostart": "true", "enable_control": "true"}
        pairs = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", "vla_ros.nodes.policy.policy_node", "--ros-args", *pairs]
        environment = {**variables, "PYTHONPATH": python_path(folder)}
        processes.append(subprocess.Popen(command, cwd=folder, env=environment))
        node = rclpy.create_node("rover", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        heard: list[Any] = []
        node.create_subscription(kind, sink, heard.append, 10)
        publisher = node.create_publisher(type(message), topic, 10)

        def publish() -> None:
            message.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(message)

        node.create_timer(0.1, publish)
        deadline = time.monotonic() + 90.0
        while len(heard) < 5 and time.monotonic() < deadline:
            assert processes[-1].poll() is None
            executor.spin_once(timeout_sec=0.1)
        executor.shutdown()
        node.destroy_node()
        return heard

    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    yield drive
    for process in processes:
        process.terminate()
        process.wait(30)
    context.try_shutdown()
    domain.release()


@pytest.mark.ros
def test_the_policy_node_drives_by_the_new_type(rover: Path, driven: Callable[..., list[Any]]) -> None:
    from geometry_msgs.msg import TwistStamped
    from sensor_msgs.msg import Temperature

    message = Temperature(temperature=42.0)
    message.header.frame_id = "thermometer"
    robot = {"contract": "rover.yaml", "checkpoint": "out/rover/checkpoint"}
    heard = driven(rover, **robot, topic="/plate/temperature", message=message, sink="/cmd_vel", kind=TwistStamped)
    assert len(heard) == 5
    assert all(np.isfinite([m.twist.linear.x, m.twist.angular.z]).all() for m in heard)
    assert any(m.twist.linear.x or m.twist.angular.z for m in heard)


@pytest.mark.ros
def test_the_policy_node_commands_by_the_new_sink(gamepad: Path, driven: Callable[..., list[Any]]) -> None:
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import Joy

    robot = {"contract": "gamepad_rover.yaml", "checkpoint": "tiny"}
    heard = driven(gamepad, **robot, topic="/odometry", message=Odometry(), sink="/joy", kind=Joy)
    assert len(heard) == 5
    assert {(len(message.axes), tuple(message.buttons)) for message in heard} == {(2, (1,))}
    assert all(np.abs(message.axes).max() <= 1.0 for message in heard)
    assert any(np.abs(message.axes).max() > 0.0 for message in heard)
