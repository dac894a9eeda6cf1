"""Facts about the demonstrator as a process of its own, over DDS."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from vla_ros.contract import load_contract
from vla_ros.rollouts.ros_environment import RosDomain, run_environment
from vla_ros.sim.noise import ActionNoise
from vla_ros_msgs.msg import EndEffectorAction, EpisodeStatus

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
DECIDED = np.array([0.004, -0.002, 0.0, 0.5])
SCALE = np.array([0.01, 0.01, 0.01, 0.0])
CONTRACT = load_contract(ROOT / "config" / "robots" / "metaworld_sawyer.yaml")
TICK_NS = 3_050_000_000


class Bench:
    """An expert in a child process, which this process plays the robot to."""

    def __init__(self, *parameters: str) -> None:
        self._domain = RosDomain()
        command = [sys.executable, "-m", "vla_ros.nodes.sim.expert_node", "--ros-args"]
        for parameter in parameters:
            command += ["-p", parameter]
        self.process = subprocess.Popen(command, cwd=ROOT, env=run_environment(self._domain))
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self._domain.number)
        self.node = Node("bench", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executed: list[Any] = []
        self.intended: list[Any] = []
        self.node.create_subscription(EndEffectorAction, "/end_effector/action", self.executed.append, 10)
        self.node.create_subscription(EndEffectorAction, "/demonstration/action", self.intended.append, 10)
        self.status = self.node.create_publisher(EpisodeStatus, "/sim/episode_status", 10)
        self.state = self.node.create_publisher(Float64MultiArray, "/sim/demonstration", 10)
        self.wait(lambda: self.status.get_subscription_count() and self.state.get_subscription_count())

    def wait(self, condition: Callable[[], Any], limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, "the expert ended"
            assert time.monotonic() < deadline
            self.executor.spin_once(timeout_sec=0.1)

    def tick(self, tick_ns: int, episode: int) -> tuple[Any, Any]:
        """Send a decision; the executed and the intended action that answer it."""
        count = len(self.executed)
        self.state.publish(Float64MultiArray(data=[*DECIDED, *SCALE, *divmod(tick_ns, 10**9), episode]))
        self.wait(lambda: len(self.executed) > count and len(self.intended) > count)
        return self.executed[-1], self.intended[-1]

    def close(self) -> int:
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
def noisy() -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        bench = Bench("noise_std:=0.3", "seed:=4")
        yield bench
        assert bench.close() == 0, "SIGINT is the ordinary way to end it"


def vector(message: Any) -> np.ndarray:
    return np.array([message.linear.x, message.linear.y, message.linear.z, message.gripper])


def test_a_decision_is_answered_by_what_is_intended_and_what_is_done_stamped_with_its_tick(noisy: Bench) -> None:
    noisy.status.publish(EpisodeStatus(task="push-v3", episode=1, seed=7))
    noise = ActionNoise(SCALE, 0.3, seed=4)
    noise.begin_episode(7)
    for tick_ns in (TICK_NS, TICK_NS + 50_000_000):
        executed, intended = noisy.tick(tick_ns, episode=1)
        np.testing.assert_allclose(vector(executed), noise(DECIDED, CONTRACT), atol=1e-15)
        np.testing.assert_allclose(vector(intended), DECIDED, atol=1e-15)
        assert not np.array_equal(vector(executed), vector(intended))
        for message in (executed, intended):
            assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == tick_ns
            assert message.observation_stamp == message.header.stamp
            assert message.header.frame_id == "base_link"
            assert message.representation == EndEffectorAction.DISPLACEMENT
            assert message.period.nanosec == 50_000_000


def test_a_decision_that_overtakes_the_status_of_its_episode_is_answered_when_the_status_comes(noisy: Bench) -> None:
    count = len(noisy.executed)
    noisy.state.publish(Float64MultiArray(data=[*DECIDED, *SCALE, *divmod(TICK_NS, 10**9), 9]))
    noisy.executor.spin_once(timeout_sec=0.3)
    assert len(noisy.executed) == count
    noisy.status.publish(EpisodeStatus(task="reach-v3", episode=9, seed=1))
    noisy.wait(lambda: len(noisy.executed) > count)


def test_a_wrong_parameter_ends_the_node_with_one_sentence() -> None:
    command = [sys.executable, "-m", "vla_ros.nodes.sim.expert_node", "--ros-args", "-p", "noise_std:=-1.0"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: parameter 'noise_std' must be at least 0, got -1.0.")
