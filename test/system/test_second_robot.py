"""Another robot needs only another contract: bag, dataset, training, replay and policy node of an arm unlike the
shipped one, with no line of code for it under vla_ros/."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vla_ros.contract import load_contract
from vla_ros.rollouts.ros_environment import RosDomain, run_environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robots"))
import fake_arm

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = load_contract(fake_arm.CONTRACT)
START_NS = 1_700_000_000 * fake_arm.SECOND
KEYS = ["observation.images.overhead", "observation.state", "observation.tool"]


@pytest.fixture(scope="module", autouse=True)
def _own_domain() -> Iterator[None]:
    """Let no other run on this machine hear these nodes."""
    domain = RosDomain()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in run_environment(domain).items():
            patch.setenv(name, value)
        yield
    domain.release()


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bags")
    return [fake_arm.write_bag(folder / f"episode_{i:03d}", START_NS + 10 * i * fake_arm.SECOND, 2.5) for i in range(2)]


@pytest.fixture(scope="module")
def dataset(bags: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vla_ros.converters import convert_bags

    root = tmp_path_factory.mktemp("data") / "circle"
    convert_bags(bags, CONTRACT, root, image_storage="png", progress=False)
    return root


@pytest.fixture(scope="module")
def checkpoint(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vla_ros.training import load_recipe, train

    folder = tmp_path_factory.mktemp("train")
    recipe = folder / "recipe.yaml"
    content = {
        "output": str(folder / "run"),
        "dataset": {"root": str(dataset), "validation_fraction": 0.0},
        "inputs": KEYS,
        "policy": {"name": "bc", "overrides": {"action_horizon": 4, "n_obs_steps": 2, "hidden_dims": [32]}},
        "steps": 3,
        "batch_size": 4,
        "threads": 1,
        "device": "cpu",
    }
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    return train(load_recipe(recipe))


def test_the_second_robot_differs_in_everything_a_contract_says() -> None:
    shipped = load_contract(ROOT / "config" / "robots" / "metaworld_sawyer.yaml")
    assert CONTRACT.fps != shipped.fps
    assert CONTRACT.control_rate_hz == 3 * CONTRACT.fps
    assert CONTRACT.features["observation.images.overhead"].shape == (48, 64, 3)
    assert CONTRACT.action.representation != shipped.action.representation
    assert [sink.type for sink in CONTRACT.action.sinks] == ["geometry_msgs/msg/PoseStamped"]
    assert not {spec.topic for spec in CONTRACT.inputs} & {spec.topic for spec in shipped.inputs}


def test_nothing_in_the_package_knows_the_second_robot() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "vla_ros").rglob("*.py")]
    for name in ("test_arm", "shoulder", "overhead", "forearm_roll"):
        assert not [text for text in sources if name in text], name


@pytest.mark.slow
def test_its_bags_become_a_dataset_on_its_own_grid(dataset: Path) -> None:
    from vla_ros.datasets import EpisodeDataset

    data = EpisodeDataset(dataset)
    episode = data.episode(0)
    assert data.fps == 10
    assert data.n_episodes == 2
    assert episode.task == "draw a circle"
    assert episode.values["observation.images.overhead"].shape[1:] == (48, 64, 3)
    first_tick_s = 0.1 * np.ceil(10 * (START_NS / fake_arm.SECOND % 100.0 + 0.011))
    # the stamps count: state at a tick is the newest sample before it, 50 Hz with a phase of 3 ms
    state = episode.values["observation.state"][0]
    expected = fake_arm.joints(first_tick_s - 0.017)
    np.testing.assert_allclose(state, [expected[name] for name in ("shoulder", "elbow", "forearm_roll")], atol=1e-5)


@pytest.mark.slow
def test_its_bag_is_replayed(bags: list[Path], checkpoint: Path, tmp_path: Path) -> None:
    from vla_ros.evaluation.replay import replay_bag

    summary = replay_bag(bags[0], checkpoint, None, tmp_path / "replay").summary
    assert summary["ticks_compared"] > 15
    assert list(summary["errors"]) == list(CONTRACT.action.names)
    assert summary["rotation_error_rad"]["mean"] > 0.0


class ArmOverDds:
    """The fake arm as ROS publishers, and what it is told by the policy."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        from vla_ros.messages.encoders import message_class
        from vla_ros.messages.qos import to_profile

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        node = rclpy.create_node("fake_arm", context=self._context)
        self._node = node
        self.commands: list[Any] = []
        self._publishers = {
            spec.topic: node.create_publisher(message_class(spec.type), spec.topic, to_profile(spec.qos))
            for spec in CONTRACT.inputs
        }
        sink = CONTRACT.action.sinks[0]
        node.create_subscription(message_class(sink.type), sink.topic, self.commands.append, to_profile(sink.qos))
        for topic, publisher in self._publishers.items():
            rate = fake_arm.STREAMS[topic][0]
            node.create_timer(
                1.0 / rate, lambda t=topic, p=publisher: p.publish(fake_arm.message(t, time.time_ns()).raw)
            )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)
        self._node.destroy_node()
        self._context.shutdown()


@pytest.fixture
def arm() -> Iterator[ArmOverDds]:
    arm = ArmOverDds()
    yield arm
    arm.close()


@pytest.fixture
def policy_node(checkpoint: Path, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    parameters = {
        "checkpoint": checkpoint,
        "contract": fake_arm.CONTRACT,
        "autostart": "true",
        "enable_control": "true",
        "torch_threads": 1,
    }
    command = [sys.executable, "-m", "vla_ros.nodes.policy.policy_node", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    with (tmp_path / "policy_node.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ))
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.ros
@pytest.mark.slow
def test_its_policy_node_publishes_poses(
    arm: ArmOverDds, policy_node: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    log = tmp_path / "policy_node.log"
    deadline = time.monotonic() + 60
    while len(arm.commands) < 40:
        assert policy_node.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, f"{len(arm.commands)} commands:\n{log.read_text(encoding='utf-8')}"
        time.sleep(0.05)
    poses = list(arm.commands)
    assert {type(pose).__name__ for pose in poses} == {"PoseStamped"}
    assert {pose.header.frame_id for pose in poses} == {"arm_base"}
    for pose in poses:
        turn = pose.pose.orientation
        assert turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2 == pytest.approx(1.0)
        assert -1.0 <= pose.pose.position.x <= 1.0
        assert 0.0 <= pose.pose.position.z <= 1.0
    stamps = [pose.header.stamp.sec * fake_arm.SECOND + pose.header.stamp.nanosec for pose in poses]
    assert stamps == sorted(set(stamps))
    steps = np.diff(stamps) / fake_arm.SECOND
    assert np.median(steps) == pytest.approx(1 / 30, abs=1e-3)
