"""Three robots by their contracts alone: recorded over DDS, converted, trained on, replayed, driven by the policy node.

A UR5e with joints in alphabetical order at 500 Hz, depth, TF, wrench, a twist of the tool and a gripper action; two
arms with fourteen joints and four cameras; a base with a laser scan, odometry, an IMU and Twist.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs.msg")
pytest.importorskip("control_msgs.action")

from vla_ros.contract import QosSpec, RobotContract, load_contract  # noqa: E402
from vla_ros.converters import convert_bags  # noqa: E402
from vla_ros.datasets import EpisodeDataset  # noqa: E402
from vla_ros.messages.qos import to_profile  # noqa: E402
from vla_ros.messages.rclpy_deserialize import message_class  # noqa: E402
from vla_ros.rollouts.ros_environment import RosDomain, run_environment  # noqa: E402
from vla_ros_msgs.srv import StartEpisode, StopEpisode  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(170)]

spec = importlib.util.spec_from_file_location("generated_robot", Path(__file__).with_name("generated.py"))
assert spec is not None
assert spec.loader is not None
generated = sys.modules.setdefault("generated_robot", importlib.util.module_from_spec(spec))
spec.loader.exec_module(generated)

ROOT = Path(__file__).resolve().parents[2]
SECOND = generated.SECOND
STATIC = QosSpec("reliable", "transient_local", 10)
RATES = {"/joint_states": 500, "/tf": 100}
MULTI_SENSOR = {"width": 16, "n_heads": 2, "n_fusion_layers": 1, "n_queries": 2, "hidden_dims": [16], "n_obs_steps": 1}
DEPTH = {"encoder": "raster", "options": {"rows": 60, "channels": 4, "grid": [2, 2]}}
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ur5e": ("multi_sensor", {**MULTI_SENSOR, "sensors": {"observation.images.wrist_depth": DEPTH}}),
    "aloha": ("bc", {"n_obs_steps": 1, "hidden_dims": [16]}),
    "diff_drive": ("multi_sensor", MULTI_SENSOR),
}


@pytest.fixture(autouse=True)
def _own_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no other run on this machine hear these nodes."""
    domain = RosDomain()
    for name, value in run_environment(domain).items():
        monkeypatch.setenv(name, value)
    yield
    domain.release()


class RobotOverDds:
    """A generated robot as publishers and, of its grippers, action servers; it hears what the sinks are told."""

    def __init__(self, contract: RobotContract) -> None:
        self.contract = contract
        self.robot = generated.GeneratedRobot(contract, RATES)
        self.teaching = True
        self.told: dict[str, list[Any]] = {sink.topic: [] for sink in contract.action.sinks}
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("robot", context=self._context)
        self._publishers = {
            topic: self.node.create_publisher(message_class(kind), topic, to_profile(QosSpec("reliable", depth=100)))
            for topic, kind in self.robot.types.items()
        }
        static = self.robot.static(time.time_ns())
        if static is not None:
            self._latched = self.node.create_publisher(message_class(static.type), static.topic, to_profile(STATIC))
            self._latched.publish(static.raw)
        info = message_class("sensor_msgs/msg/CameraInfo")
        self._infos = {
            t: self.node.create_publisher(info, t, to_profile(QosSpec("reliable"))) for t in self.robot.infos
        }
        for sink in contract.action.sinks:
            self._hear(sink)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._spin, self._publish)]
        for thread in self._threads:
            thread.start()

    def _hear(self, sink: Any) -> None:
        kind, said = message_class(sink.type), self.told[sink.topic]
        if not sink.is_action:
            self.node.create_subscription(kind, sink.topic, said.append, to_profile(sink.qos))
            return
        from rclpy.action import ActionServer

        def execute(goal: Any) -> Any:
            said.append(goal.request)
            goal.succeed()
            return kind.Result(reached_goal=True)

        ActionServer(self.node, kind, sink.topic, execute)

    def _spin(self) -> None:
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _publish(self) -> None:
        """Publish every topic at its rate; what a busy machine is late for is left out, not caught up on."""
        due = {topic: time.time_ns() for topic in self._publishers}
        while not self._closing.is_set():
            now_ns = time.time_ns()
            for topic, publisher in self._publishers.items():
                if now_ns >= due[topic] and (self.teaching or topic in self.robot.inputs):
                    publisher.publish(self.robot.message(topic, now_ns).raw)
                    self._publish_info(topic, now_ns)
                    due[topic] = max(due[topic], now_ns - 20_000_000) + SECOND // self.robot.rates[topic]
            next_ns = min(due.values() if self.teaching else (due[t] for t in self.robot.inputs))
            time.sleep(max(0, min(next_ns - time.time_ns(), 5_000_000)) / SECOND)

    def _publish_info(self, topic: str, now_ns: int) -> None:
        """Publish a camera's calibration beside its image, as drivers do."""
        info = self.robot.inputs[topic].info if topic in self.robot.inputs else None
        if info is not None:
            self._infos[info.topic].publish(self.robot.info(info.topic, now_ns).raw)

    def call(self, kind: Any, name: str, **request: Any) -> Any:
        client = self.node.create_client(kind, f"/bag_recorder/{name}")
        assert client.wait_for_service(60), name
        future = client.call_async(kind.Request(**request))
        wait_for(future.done)
        return future.result()

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(5)
        self.node.destroy_node()
        self._context.shutdown()


def wait_for(condition: Callable[[], Any], seconds: float = 100.0, said: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)


@contextmanager
def node_process(module: str, log: Path, **parameters: Any) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", module, "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def recorded(robot: RobotOverDds, folder: Path) -> Path:
    """Record three seconds of a demonstration, once every topic is heard."""
    contract = Path(robot.contract.source)
    with node_process(
        "vla_ros.nodes.recorder.bag_recorder_node", folder / "recorder.log", contract=contract, output=folder
    ):
        for publisher in robot._publishers.values():
            wait_for(publisher.get_subscription_count, said=(folder / "recorder.log").read_text)
        time.sleep(0.5)
        started = robot.call(StartEpisode, "start_episode", instruction="do it")
        assert started.success, started.message
        time.sleep(3.0)
        stopped = robot.call(StopEpisode, "stop_episode", task_success=True)
        assert stopped.success, stopped.message
    return Path(stopped.path)


def trained(name: str, dataset: Path, contract: RobotContract, folder: Path) -> Path:
    from vla_ros.training import load_recipe, train

    architecture, overrides = POLICIES[name]
    content = {
        "output": str(folder / "run"),
        "dataset": {"root": str(dataset), "validation_fraction": 0.0},
        "inputs": [key for key in contract.features if key not in ("action", "observation.effort")],
        "policy": {"name": architecture, "overrides": {**overrides, "action_horizon": contract.fps}},  # a second
        "steps": 3,
        "batch_size": 2,
        "threads": 1,
        "device": "cpu",
    }
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    return train(load_recipe(recipe))


def driven(robot: RobotOverDds, checkpoint: Path, folder: Path, commands: int) -> dict[str, list[Any]]:
    """Let the policy node drive until every sink was told, topics `commands` times and actions once."""
    robot.teaching = False
    time.sleep(0.2)
    for said in robot.told.values():
        said.clear()  # what the demonstrator commanded
    log = folder / "policy.log"
    values = {
        "checkpoint": checkpoint,
        "contract": robot.contract.source,
        "autostart": "true",
        "enable_control": "true",
    }
    with node_process("vla_ros.nodes.policy.policy_node", log, torch_threads=1, **values) as process:

        def told_enough() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            wanted = {s.topic: 1 if s.is_action else commands for s in robot.contract.action.sinks}
            return all(len(robot.told[topic]) >= number for topic, number in wanted.items())

        wait_for(told_enough, said=lambda: f"{ {t: len(m) for t, m in robot.told.items()} }\n{log.read_text()}")
    return robot.told


def whole_loop(name: str, folder: Path, commands: int) -> tuple[EpisodeDataset, dict[str, Any], dict[str, list[Any]]]:
    """Record, convert, train, replay, drive; return the dataset, the replay's summary and what the robot was told."""
    from vla_ros.evaluation.replay import replay_bag

    contract = load_contract(ROOT / "config" / "robots" / f"{name}.yaml")
    robot = RobotOverDds(contract)
    try:
        bag = recorded(robot, folder)
        convert_bags([bag], contract, folder / "data", image_storage="png", progress=False)
        checkpoint = trained(name, folder / "data", contract, folder)
        summary = replay_bag(bag, checkpoint, None, folder / "replay").summary
        told = driven(robot, checkpoint, folder, commands)
    finally:
        robot.close()
    dataset = EpisodeDataset(folder / "data")
    assert dataset.n_frames > contract.fps
    assert summary["ticks_compared"] > contract.fps // 2
    assert list(summary["errors"]) == list(contract.action.names)
    return dataset, summary, told


def test_a_ur5e_with_depth_tf_wrench_tool_twist_and_gripper_action(tmp_path: Path) -> None:
    dataset, _, told = whole_loop("ur5e", tmp_path, 30)
    limits = load_contract(ROOT / "config" / "robots" / "ur5e.yaml").action.limits
    episode = dataset.episode(0).values
    assert np.isfinite(episode["observation.tool"]).all()
    np.testing.assert_allclose(episode["observation.tool"][:, 2], 0.5, atol=1e-3)  # 0.4 of /tf, 0.1 of /tf_static
    assert np.nanmin(episode["observation.images.wrist_depth"]) > 0.28
    camera = dataset.features["observation.images.wrist"].camera_info
    assert camera is not None
    assert (camera["height"], camera["width"]) == (120, 160)
    twists = told["/servo_node/delta_twist_cmds"]
    assert {twist.header.frame_id for twist in twists} == {"tool0"}
    speeds = [np.linalg.norm([t.twist.linear.x, t.twist.linear.y, t.twist.linear.z]) for t in twists]
    assert max(speeds) <= limits.max_speed + 1e-9
    assert max(speeds) > 0.0
    goals = told["/robotiq_gripper_controller/gripper_cmd"]
    assert all(0.0 <= goal.command.position <= 0.8 and goal.command.max_effort == 50.0 for goal in goals)


def test_two_arms_with_fourteen_joints_and_four_cameras(tmp_path: Path) -> None:
    dataset, _, told = whole_loop("aloha", tmp_path, 3)
    assert dataset.features["observation.state"].shape == (14,)
    assert dataset.features["action"].shape == (14,)
    assert sum(feature.kind == "image" for feature in dataset.features.values()) == 4
    episode = dataset.episode(0).values
    arms = [n for n in range(14) if n not in (6, 13)]  # the leaders are ahead of the followers; grippers are measured
    assert np.abs(episode["action"][:, arms] - episode["observation.state"][:, arms]).mean(axis=0).min() > 1e-4
    for side in ("left", "right"):
        for message in told[f"/follower_{side}/arm_controller/joint_trajectory"]:
            assert list(message.joint_names) == [
                "waist",
                "shoulder",
                "elbow",
                "forearm_roll",
                "wrist_angle",
                "wrist_rotate",
            ]
            assert -1.85006 <= message.points[-1].positions[1] <= 1.25665
        for message in told[f"/follower_{side}/gripper_controller/joint_trajectory"]:
            assert list(message.joint_names) == ["left_finger"]
            assert 0.021 - 1e-9 <= message.points[-1].positions[0] <= 0.057 + 1e-9


def test_a_differential_base_with_scan_odometry_imu_and_twist(tmp_path: Path) -> None:
    dataset, _, told = whole_loop("diff_drive", tmp_path, 20)
    assert dataset.features["observation.scan.front"].kind == "points"
    assert dataset.features["observation.imu.base"].shape == (5, 6)
    episode = dataset.episode(0).values
    assert 0.05 <= episode["action"][:, 0].mean() <= 0.15
    for twist in told["/cmd_vel"]:
        assert -0.22 <= twist.linear.x <= 0.22
        assert -2.84 <= twist.angular.z <= 2.84
        assert (twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y) == (0.0, 0.0, 0.0, 0.0)
