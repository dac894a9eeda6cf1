"""Records over real DDS: the node in its own process, a publisher here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vla_ros.contract import RobotContract, load_contract

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs.msg")

from std_msgs.msg import String  # noqa: E402

from vla_ros import bags  # noqa: E402
from vla_ros.contract import QosSpec  # noqa: E402
from vla_ros.messages.message_types import serialize  # noqa: E402
from vla_ros.messages.qos import to_profile  # noqa: E402
from vla_ros.messages.rclpy_deserialize import message_class  # noqa: E402
from vla_ros.messages.samples import make_example_action, make_example_message  # noqa: E402
from vla_ros_msgs.msg import EpisodeStatus  # noqa: E402
from vla_ros_msgs.srv import StartEpisode, StopEpisode  # noqa: E402

CONTRACT = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
JOINTS = "/joint_states"


class Robot:
    """Publishes a contract's topics and talks to one recorder process."""

    def __init__(self, context: Any, output: Path) -> None:
        self.contract: RobotContract = load_contract(CONTRACT)
        self.output = output
        self.node = rclpy.create_node("robot", context=context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.spinner = threading.Thread(target=self.executor.spin, daemon=True)
        self.spinner.start()
        action = self.contract.action
        streams = {s.topic: (s.type, s.qos) for s in self.contract.inputs}
        streams[action.record.topic] = (action.record.type, action.record.qos)
        # Reliable, so that a test on a busy machine can ask for every message
        self.publishers = {
            topic: self.node.create_publisher(message_class(kind), topic, to_profile(QosSpec("reliable", depth=2000)))
            for topic, (kind, _) in streams.items()
        }
        self.publishers["/sim/episode_status"] = self.node.create_publisher(
            EpisodeStatus, "/sim/episode_status", to_profile(QosSpec("reliable", depth=10))
        )
        latched = to_profile(QosSpec("reliable", "transient_local"))
        self.instruction = self.node.create_publisher(String, self.contract.instruction.topic, latched)
        self.instruction.publish(String(data="close the drawer"))
        self.process: subprocess.Popen[str] | None = None

    def start_recorder(self, **parameters: Any) -> None:
        values = {"contract": str(CONTRACT), "output": str(self.output), **parameters}
        arguments = [item for name, value in values.items() for item in ("-p", f"{name}:={json.dumps(value)}")]
        command = [sys.executable, "-m", "vla_ros.nodes.recorder.bag_recorder_node", "--ros-args", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
        wait_for(lambda: all(p.get_subscription_count() for p in [*self.publishers.values(), self.instruction]))

    def wait_until_heard(self) -> None:
        """Record until every topic is heard: that a publisher knows its reader does not mean the converse."""

        def heard() -> bool:
            path = Path(self.call(StartEpisode, "start_episode").path)
            self.publish(1)
            self.publish_status(1, 0, 10.0)  # of an episode joined too late to record
            assert self.call(StopEpisode, "stop_episode").success
            counts = episode(path)["messages"]
            shutil.rmtree(path)
            return all(counts[topic] for topic in [*self.publishers, self.contract.instruction.topic])

        wait_for(heard)

    def publish(self, stamp_ns: int) -> None:
        for index, spec in enumerate(self.contract.inputs):
            raw = serialize(make_example_message(spec, stamp_ns, seed=index), spec.type)
            self.publishers[spec.topic].publish(raw)
        action = self.contract.action
        raw = serialize(make_example_action(action, stamp_ns), action.record.type)
        self.publishers[action.record.topic].publish(raw)

    def publish_status(self, stamp_ns: int, episode: int, elapsed: float, *, success: bool = False) -> None:
        status = EpisodeStatus(task="push-v3", episode=episode, seed=100 + episode, success=success, elapsed=elapsed)
        status.header.stamp.sec, status.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        self.publishers["/sim/episode_status"].publish(status)

    def call(self, service: Any, name: str, **fields: Any) -> Any:
        client = self.node.create_client(service, f"/bag_recorder/{name}")
        assert client.wait_for_service(20.0)
        done = threading.Event()
        future = client.call_async(service.Request(**fields))
        future.add_done_callback(lambda _: done.set())
        assert done.wait(20.0)
        return future.result()

    def stop_recorder(self) -> str:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        text, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, text
        assert "Traceback" not in text
        return text

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.executor.shutdown()
        self.spinner.join()
        self.node.destroy_node()


def wait_for(condition: Callable[[], Any], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)  # the graph and the disk offer nothing to wait on


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Robot]:
    monkeypatch.setenv("ROS_DOMAIN_ID", os.environ.get("ROS_DOMAIN_ID", "13"))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.context.Context()
    rclpy.init(context=context)
    robot = Robot(context, tmp_path / "bags")
    yield robot
    robot.close()
    rclpy.try_shutdown(context=context)
    shutil.rmtree(tmp_path, ignore_errors=True)


def episode(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "episode.json").read_text()))


def test_services_record_episodes_that_every_reader_opens(robot: Robot) -> None:
    robot.start_recorder()
    robot.wait_until_heard()
    nothing = robot.call(StopEpisode, "stop_episode")
    assert not nothing.success
    assert "no episode" in nothing.message

    started = robot.call(StartEpisode, "start_episode")
    assert started.success, started.message
    count = 1500
    spec = next(s for s in robot.contract.inputs if s.topic == JOINTS)
    for k in range(count):  # faster than the 500 Hz of a real robot
        robot.publishers[JOINTS].publish(serialize(make_example_message(spec, (k + 1) * 2_000_000), spec.type))
    for k in range(1, 4):
        robot.publish(10**10 + k * 50_000_000)
    assert all(p.wait_for_all_acked() for p in robot.publishers.values())
    stopped = robot.call(StopEpisode, "stop_episode", task_success=True)
    assert stopped.success, stopped.message
    assert stopped.path == started.path
    path = Path(stopped.path)

    facts = episode(path)
    assert facts["success"] is True
    assert facts["instruction"] == "close the drawer"
    assert facts["contract_hash"] == robot.contract.hash
    assert facts["lost_messages"] == 0
    assert facts["silent_topics"] == []
    assert load_contract(path / "contract.yaml") == robot.contract
    assert (path / "metadata.yaml").is_file()
    counts = Counter(message.topic for message in bags.read_messages(path))
    assert counts[JOINTS] == count + 3
    assert counts == {topic: n for topic, n in facts["messages"].items() if n}
    assert counts[robot.contract.instruction.topic] == 1  # said before the episode, true in it

    from mcap_ros2.reader import read_ros2_messages

    read = Counter(m.channel.topic for m in read_ros2_messages(path / f"{path.name}.mcap"))
    assert read == counts

    discarded = robot.call(StartEpisode, "start_episode", instruction="try once more")
    assert Path(discarded.path).name == "episode_000001"
    assert robot.call(StopEpisode, "stop_episode", discard=True).success
    assert not Path(discarded.path).exists()

    last = robot.call(StartEpisode, "start_episode", instruction="end in the middle")
    robot.publishers[JOINTS].publish(serialize(make_example_message(spec, 10**11), spec.type))
    assert robot.publishers[JOINTS].wait_for_all_acked()
    text = robot.stop_recorder()
    assert len(list(bags.read_messages(last.path, [JOINTS]))) == 1
    assert episode(Path(last.path))["success"] is None
    assert "nothing was received on" in text


def test_a_simulated_robot_s_episodes_become_bags_without_each_other_s_messages(robot: Robot) -> None:
    robot.start_recorder(auto_episodes=True, discard_failures=True)
    robot.wait_until_heard()
    tick = 20
    for number, succeeds in ((1, True), (2, False), (3, True)):
        for k in range(4):
            stamp_ns = tick * 50_000_000
            robot.publish(stamp_ns)  # the first of an episode, before the status that announces it
            robot.publish_status(stamp_ns, number, k * 0.05, success=succeeds and k == 3)
            tick += 1
            # DDS keeps the order within a topic only; a robot takes 50 ms for a tick, this loop none
            assert all(p.wait_for_all_acked() for p in robot.publishers.values())
    robot.publish_status(tick * 50_000_000, 4, 0.0)
    wait_for((robot.output / "episode_000002").exists)  # the second was discarded, so this is the fourth
    robot.stop_recorder()
    kept = sorted(robot.output.iterdir())
    facts = [episode(path) for path in kept]
    assert [(f["episode"], f["seed"], f["success"]) for f in facts] == [(1, 101, True), (3, 103, True)]
    for path, first_tick in zip(kept, (20, 28), strict=True):
        stamps = [
            bags.deserialize(message.raw, message.type).header.stamp for message in bags.read_messages(path, [JOINTS])
        ]
        ticks = [(s.sec * 10**9 + s.nanosec) // 50_000_000 for s in stamps]
        assert ticks == list(range(first_tick, first_tick + 4))


def test_an_unwritable_folder_is_one_sentence_and_the_node_lives_on(robot: Robot) -> None:
    robot.output.write_text("a file where the folder should be")
    robot.start_recorder()
    for _ in range(2):
        answer = robot.call(StartEpisode, "start_episode")
        assert not answer.success
        assert "bags cannot be written here" in answer.message
    robot.output.unlink()
    assert robot.call(StartEpisode, "start_episode").success
    robot.stop_recorder()


def test_a_wrong_contract_ends_the_node_with_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "vla_ros.nodes.recorder.bag_recorder_node",
        "--ros-args",
        "-p",
        "contract:=nowhere.yaml",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert "nowhere.yaml: no such file" in result.stderr
    assert "Traceback" not in result.stderr
