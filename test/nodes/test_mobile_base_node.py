"""The mobile base behind its topics, as its readers and commanders see it: a process of its own, over DDS."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vla_ros.sim.egl")  # before mujoco, whose backend it chooses
pytest.importorskip("mujoco")
pytest.importorskip("rclpy")

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.contract import load_contract
from vla_ros.messages.message_class import message_class
from vla_ros.rollouts.ros_environment import RosDomain, run_environment
from vla_ros_msgs.msg import EpisodeStatus
from vla_ros_msgs.srv import SetTask

pytestmark = [pytest.mark.ros, pytest.mark.egl]

ROOT = Path(__file__).parents[2]
CONTRACT = load_contract(ROOT / "config" / "robots" / "mobile_base.yaml")
PERIOD_NS = 100_000_000


def stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


class Bench:
    """The base in a child process, in lock-step, and everything that came from it."""

    def __init__(self) -> None:
        import rclpy

        self._domain = RosDomain()
        parameters = ["contract:=config/robots/mobile_base.yaml", "sim_config:=config/sim/mobile_base.yaml"]
        parameters += ["task:=crossing-night", "lock_step:=true", "lock_step_timeout_s:=20.0"]
        command = [sys.executable, "-m", "vla_ros.nodes.sim.sim_robot_node", "--ros-args"]
        for parameter in parameters:
            command += ["-p", parameter]
        environment = {**run_environment(self._domain), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self._domain.number)
        self.node = Node("bench", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.received: dict[str, list[Any]] = {}
        best_effort = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        for spec in CONTRACT.inputs:
            self._listen(spec.topic, message_class(spec.type), best_effort)
        self._listen("/camera/front/camera_info", message_class("sensor_msgs/msg/CameraInfo"), best_effort)
        self._listen("/sim/episode_status", EpisodeStatus, QoSProfile(depth=50))
        sink = CONTRACT.action.sinks[0]
        self.twist = message_class(sink.type)
        self.commands = self.node.create_publisher(self.twist, sink.topic, 1)
        self.wait(lambda: self.commands.get_subscription_count() and self.received["/sim/episode_status"])

    def _listen(self, topic: str, kind: Any, qos: QoSProfile) -> None:
        if topic not in self.received:
            self.node.create_subscription(kind, topic, self.received.setdefault(topic, []).append, qos)

    def transforms(self) -> list[Any]:
        tf = pytest.importorskip("tf2_msgs.msg").TFMessage
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        got: list[Any] = []
        self.node.create_subscription(tf, "/tf_static", got.append, latched)
        self.wait(lambda: got)
        return list(got[0].transforms)

    def wait(self, condition: Callable[[], Any], limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, "the robot ended"
            assert time.monotonic() < deadline
            self.executor.spin_once(timeout_sec=0.1)

    def drive(self, tick_ns: int, linear: float) -> None:
        message = self.twist()
        message.header.frame_id = "base_link"
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(tick_ns, 10**9)
        message.twist.linear.x = linear
        self.commands.publish(message)

    def close(self) -> int:
        import rclpy

        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.executor.shutdown()
            self.node.destroy_node()
            rclpy.shutdown(context=self.context)
            self._domain.release()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.close() == 0, "SIGINT is the ordinary way to end it"


def test_every_sensor_of_a_tick_carries_its_stamp_and_a_twist_drives_the_base(bench: Bench) -> None:
    tick_ns = stamp_ns(bench.received["/sim/episode_status"][-1])
    slow = [spec.topic for spec in CONTRACT.inputs if spec.window is None]
    for _ in range(12):
        bench.drive(tick_ns, 0.5)
        tick_ns += PERIOD_NS
        bench.wait(lambda tick=tick_ns: all(tick in map(stamp_ns, bench.received[topic]) for topic in slow))
    assert bench.received["/odom"][-1].twist.twist.linear.x == pytest.approx(0.5, abs=0.1)
    imu = [stamp_ns(message) for message in bench.received["/imu/data"]]
    assert {b - a for a, b in zip(imu[-20:], imu[-19:], strict=False)} == {10_000_000}
    frames = {spec.topic: spec.frame for spec in CONTRACT.inputs}
    assert all(bench.received[topic][-1].header.frame_id == frame for topic, frame in frames.items())
    info = bench.received["/camera/front/camera_info"][-1]
    assert (info.height, info.width, info.header.frame_id) == (40, 64, "front_camera_optical_frame")


def test_an_unplugged_sensor_falls_silent_and_the_others_go_on(bench: Bench) -> None:
    client = AsyncParameterClient(bench.node, "sim_robot")
    bench.wait(client.services_are_ready)
    for keys, accepted in (("observation.scan.frnt", False), ("observation.scan.front", True)):
        future = client.set_parameters([Parameter("unplugged", value=keys)])
        bench.wait(future.done)
        assert future.result().results[0].successful is accepted
    tick_ns = stamp_ns(bench.received["/sim/episode_status"][-1])
    for _ in range(2):
        bench.drive(tick_ns, 0.0)
        tick_ns += PERIOD_NS
        bench.wait(lambda tick=tick_ns: tick in map(stamp_ns, bench.received["/camera/right/image_raw"]))
    assert stamp_ns(bench.received["/scan"][-1]) < tick_ns
    assert stamp_ns(bench.received["/lidar/points"][-1]) >= tick_ns - PERIOD_NS
    future = client.set_parameters([Parameter("unplugged", value="")])
    bench.wait(future.done)


def test_its_static_frames_are_those_of_its_sensors(bench: Bench) -> None:
    children = {transform.child_frame_id for transform in bench.transforms()}
    assert children == {spec.frame for spec in CONTRACT.inputs} - {"odom", "base_link"}


def test_another_task_is_another_world(bench: Bench) -> None:
    client = bench.node.create_client(SetTask, "/sim/set_task")
    bench.wait(client.service_is_ready)
    for task, succeeds in (("t-maze", True), ("tmaze", False)):
        future = client.call_async(SetTask.Request(task=task, seed=4))
        bench.wait(future.done)
        assert future.result().success is succeeds
    assert "Did you mean 't-maze'?" in future.result().message
    bench.wait(lambda: bench.received["/sim/episode_status"][-1].task == "t-maze")
