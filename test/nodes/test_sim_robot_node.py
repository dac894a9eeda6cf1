"""Facts about the simulated robot as its readers and commanders see it: a process of its own, over DDS."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)
pytest.importorskip("rclpy")

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, Imu, JointState, PointCloud2

from vla_ros.rollouts.ros_environment import RosDomain, run_environment
from vla_ros_msgs.msg import EndEffectorAction, EpisodeStatus
from vla_ros_msgs.srv import ResetEpisode, SetTask

pytestmark = [pytest.mark.ros, pytest.mark.egl]

ROOT = Path(__file__).parents[2]
TICK_NS = 50_000_000
SENSORS: dict[str, Any] = {
    "/camera/front/image_raw": Image,
    "/camera/front/camera_info": CameraInfo,
    "/camera/wrist/image_raw": Image,
    "/end_effector/pose": PoseStamped,
    "/gripper/joint_states": JointState,
    "/joint_states": JointState,
    "/lidar/points": PointCloud2,
}


def nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


class Bench:
    """A robot in a child process, and everything that came from it."""

    def __init__(self, topics: dict[str, Any], *parameters: str) -> None:
        self._domain = RosDomain()
        self.environment = run_environment(self._domain)
        command = [sys.executable, "-m", "vla_ros.nodes.sim.sim_robot_node", "--ros-args"]
        for parameter in parameters:
            command += ["-p", parameter]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self._domain.number)
        self.node = Node("bench", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.received: dict[str, list[Any]] = {}
        best_effort = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        standard = {"/clock": Clock, "/sim/episode_status": EpisodeStatus}
        for topic, message_type in {**topics, **standard}.items():
            store = self.received.setdefault(topic, []).append
            self.node.create_subscription(message_type, topic, store, best_effort if topic in topics else 100)

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = 60.0) -> Any:
        deadline = time.monotonic() + limit_s
        while not (result := condition()):
            assert self.process.poll() is None, f"the robot ended: {self.process.stdout and self.process.stdout.read()}"
            assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
            self.executor.spin_once(timeout_sec=0.1)
        return result

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(service_type, name)
        self.wait(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self.wait(future.done, f"an answer of {name}")
        return future.result()

    def reset(self, seed: int) -> int:
        for messages in self.received.values():
            messages.clear()
        answer = self.call(ResetEpisode, "/sim/reset_episode", ResetEpisode.Request(seed=seed))
        assert answer.success
        return int(answer.episode)

    def statuses(self, episode: int) -> list[Any]:
        return [m for m in self.received["/sim/episode_status"] if m.episode == episode]

    def clock_ns(self) -> list[int]:
        return [nanoseconds(m.clock) for m in self.received["/clock"]]

    def stamps(self, topic: str) -> list[int]:
        return [nanoseconds(m.header.stamp) for m in self.received[topic]]

    def close(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(20)
        finally:
            self.process.kill()
            self.executor.shutdown()
            self.node.destroy_node()
            rclpy.shutdown(context=self.context)
            self._domain.release()
        return code


def command(tick_ns: int, dx: float = 0.0, gripper: float = 0.5) -> EndEffectorAction:
    message = EndEffectorAction(representation=EndEffectorAction.DISPLACEMENT, gripper=gripper)
    for stamp in (message.header.stamp, message.observation_stamp):
        stamp.sec, stamp.nanosec = divmod(tick_ns, 10**9)
    message.header.frame_id = "base_link"
    message.linear.x = dx
    message.period.nanosec = TICK_NS
    return message


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="module")
def robot(environment: None) -> Iterator[Bench]:
    bench = Bench({**SENSORS, "/imu/data": Imu})
    yield bench
    assert bench.close() == 0, "SIGINT is the ordinary way to end it"


@pytest.fixture(scope="module")
def stepped(environment: None) -> Iterator[Bench]:
    bench = Bench(SENSORS, "lock_step:=true", "lock_step_timeout_s:=20.0")
    yield bench
    assert bench.close() == 0


def test_every_sensor_of_a_tick_carries_the_stamp_of_the_tick(robot: Bench) -> None:
    episode = robot.reset(1)
    first_ns = nanoseconds(robot.wait(lambda: robot.statuses(episode), "a status")[0].header.stamp) + TICK_NS
    robot.wait(lambda: all(len(robot.stamps(t)) > 8 for t in SENSORS), "eight ticks of every sensor")
    for topic in SENSORS:
        stamps = [s for s in robot.stamps(topic) if s >= first_ns]
        assert all(s % TICK_NS == 0 for s in stamps), topic
        assert stamps == sorted(set(stamps)), topic
    shared = set.intersection(*(set(robot.stamps(t)) for t in SENSORS))
    assert len(shared) >= 5, "sensors of one tick carry one stamp"


def test_the_imu_and_the_clock_come_at_every_step_and_messages_say_their_frames(robot: Bench) -> None:
    episode = robot.reset(2)
    robot.wait(lambda: len(robot.statuses(episode)) > 6, "six ticks")
    imu = [s for s in robot.stamps("/imu/data") if s >= nanoseconds(robot.statuses(episode)[0].header.stamp)]
    assert all(s % 12_500_000 == 0 for s in imu)
    assert max(b - a for a, b in pairwise(imu)) == 12_500_000
    assert robot.received["/imu/data"][-1].header.frame_id == "wrist_imu_link"
    assert robot.received["/camera/front/image_raw"][-1].header.frame_id == "front_camera_optical_frame"
    assert robot.received["/lidar/points"][-1].header.frame_id == "lidar_link"
    info = robot.received["/camera/front/camera_info"][-1]
    assert (info.height, info.width) == (84, 84)
    assert info.k[0] == info.k[4] > 84


def test_the_clock_never_goes_back_not_even_over_resets(robot: Bench) -> None:
    robot.reset(3)
    begun = len(robot.clock_ns())
    for seed in (4, 5):
        answer = robot.call(ResetEpisode, "/sim/reset_episode", ResetEpisode.Request(seed=seed))
        robot.wait(lambda episode=answer.episode: len(robot.statuses(episode)) > 2, "the new episode")
    clock = robot.clock_ns()
    assert len(clock) > begun
    assert clock == sorted(set(clock))
    first = robot.statuses(answer.episode)[0]
    assert nanoseconds(first.header.stamp) % TICK_NS == 0
    assert first.seed == 5
    assert first.elapsed == 0.0


def test_the_arm_halts_within_two_tenths_of_a_second_when_commands_stop_coming(robot: Bench) -> None:
    publisher = robot.node.create_publisher(EndEffectorAction, "/end_effector/action", 1)
    episode = robot.reset(6)
    robot.wait(lambda: publisher.get_subscription_count() == 1, "the robot to listen")
    sent: list[int] = []

    def moving() -> bool:
        tick_ns = robot.clock_ns()[-1]
        if not sent or tick_ns >= sent[-1] + TICK_NS:
            sent.append(tick_ns)
            publisher.publish(command(tick_ns, dx=0.005))
        return sum(not m.halted for m in robot.statuses(episode)) >= 5

    robot.wait(lambda: robot.clock_ns() and moving(), "the arm to move")
    robot.wait(lambda: robot.statuses(episode)[-1].halted, "the arm to halt")
    halted_ns = nanoseconds(robot.statuses(episode)[-1].header.stamp)
    assert halted_ns - sent[-1] <= 200_000_000
    here = robot.received["/end_effector/pose"][-1].pose.position.x
    n = len(robot.received["/end_effector/pose"])
    robot.wait(lambda: len(robot.received["/end_effector/pose"]) > n + 10, "ten more ticks")
    assert abs(robot.received["/end_effector/pose"][-1].pose.position.x - here) < 0.004
    robot.node.destroy_publisher(publisher)


def test_a_wrong_task_is_refused_by_the_service_and_the_episode_goes_on(robot: Bench) -> None:
    episode = robot.reset(7)
    answer = robot.call(SetTask, "/sim/set_task", SetTask.Request(task="psh-v3", seed=0))
    assert not answer.success
    assert "Did you mean 'push-v3'?" in answer.message
    n = len(robot.statuses(episode))
    robot.wait(lambda: len(robot.statuses(episode)) > n + 2, "the episode to go on")


def test_another_task_comes_with_its_own_images(robot: Bench) -> None:
    assert robot.call(SetTask, "/sim/set_task", SetTask.Request(task="reach-v3", seed=0)).success
    robot.wait(lambda: robot.received["/sim/episode_status"][-1].task == "reach-v3", "the new task")
    n = len(robot.received["/camera/front/image_raw"])
    robot.wait(lambda: len(robot.received["/camera/front/image_raw"]) > n + 2, "images of it")
    assert robot.call(SetTask, "/sim/set_task", SetTask.Request(task="push-v3", seed=0)).success


def run_lock_step(bench: Bench, seed: int, n_ticks: int) -> list[tuple[bytes, tuple[float, ...]]]:
    """Drive with fixed commands; image and joints of each tick of the episode."""
    publisher = bench.node.create_publisher(EndEffectorAction, "/end_effector/action", 1)
    bench.wait(lambda: publisher.get_subscription_count() == 1, "the robot to listen")
    episode = bench.reset(seed)
    announced = nanoseconds(bench.wait(lambda: bench.statuses(episode), "a status")[0].header.stamp)
    for k in range(n_ticks):
        tick_ns = announced + (k + 1) * TICK_NS
        bench.wait(lambda tick_ns=tick_ns: all(tick_ns in bench.stamps(t) for t in SENSORS), f"tick {k}")
        assert bench.clock_ns()[-1] <= tick_ns, "time stands still until the tick is answered"
        publisher.publish(command(tick_ns, dx=0.004 * (-1) ** (k // 3)))
    bench.node.destroy_publisher(publisher)
    images = [m for m in bench.received["/camera/front/image_raw"] if nanoseconds(m.header.stamp) > announced]
    joints = [m for m in bench.received["/joint_states"] if nanoseconds(m.header.stamp) > announced]
    return [(bytes(i.data), tuple(j.position)) for i, j in zip(images, joints, strict=False)][:n_ticks]


def test_in_lock_step_the_same_seed_and_commands_give_identical_images_and_joints(stepped: Bench) -> None:
    first = run_lock_step(stepped, 11, 8)
    other = run_lock_step(stepped, 12, 8)
    again = run_lock_step(stepped, 11, 8)
    assert len(first) == 8
    assert first == again
    assert first != other
    assert first[0] != first[-1], "and the arm does move"


OTHER_ROBOT = """
cameras:
  observation.images.overhead: {camera: topview, height: 48, width: 64}
joints: {shoulder: right_j0, elbow: right_j3, forearm_roll: right_j4}
"""


def test_another_contract_runs_the_same_code_and_is_driven_by_poses(environment: None, tmp_path: Path) -> None:
    (tmp_path / "sim.yaml").write_text(OTHER_ROBOT, encoding="utf-8")
    topics = {"/overhead/image_raw": Image, "/arm/joint_states": JointState, "/arm/tool_pose": PoseStamped}
    contract = ROOT / "test" / "robots" / "test_arm.yaml"
    bench = Bench(topics, f"contract:={contract}", f"sim_config:={tmp_path / 'sim.yaml'}", "command_interface:=pose")
    try:
        publisher = bench.node.create_publisher(PoseStamped, "/arm/target_pose", 1)
        bench.wait(lambda: all(bench.received[t] for t in topics), "every sensor")
        image, joints = bench.received["/overhead/image_raw"][-1], bench.received["/arm/joint_states"][-1]
        assert (image.height, image.width, image.header.frame_id) == (48, 64, "overhead_optical_frame")
        assert list(joints.name) == ["shoulder", "elbow", "forearm_roll"]
        target = PoseStamped()
        target.header.frame_id = "arm_base"
        target.pose.position.x, target.pose.position.y, target.pose.position.z = 0.05, 0.62, 0.15

        def arrived() -> bool:
            target.header.stamp = bench.received["/clock"][-1].clock
            publisher.publish(target)
            at, to = bench.received["/arm/tool_pose"][-1].pose.position, target.pose.position
            return max(abs(at.x - to.x), abs(at.y - to.y), abs(at.z - to.z)) < 0.003

        bench.wait(arrived, "the tool to arrive")
    finally:
        assert bench.close() == 0


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("task:=pussh-v3", "Did you mean 'push-v3'?"),
        ("contract:=config/robots/metaworld_sawyr.yaml", "Did you mean 'metaworld_sawyer.yaml'?"),
        ("command_interface:=pose", "command_interface 'pose' is the topic or type of no sink"),
        ("simulator:=metawrld", "Did you mean 'metaworld'?"),
        ("real_time_factr:=2.0", "Did you mean 'real_time_factor'?"),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_one_sentence(environment: None, parameter: str, says: str) -> None:
    domain = RosDomain()
    command_line = [sys.executable, "-m", "vla_ros.nodes.sim.sim_robot_node", "--ros-args", "-p", parameter]
    ended = subprocess.run(
        command_line, cwd=ROOT, env=run_environment(domain), capture_output=True, text=True, timeout=60, check=False
    )
    domain.release()
    assert ended.returncode == 2
    sentence = ended.stderr.splitlines()[-1]
    assert sentence.startswith("error: ")
    assert says in sentence
    assert "Traceback" not in ended.stderr


def test_each_episode_is_preceded_by_a_picture_of_its_goal(environment: None) -> None:
    topics = {"/camera/front/image_raw": Image}
    bench = Bench(topics, "goal_images:=true", "lock_step:=true", "lock_step_timeout_s:=0.1", "seed:=11")
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    pictures: list[Image] = []
    bench.node.create_subscription(Image, "/goal_image", pictures.append, latched)
    try:
        bench.wait(lambda: pictures, "the first goal")
        for seed in (12, 11):
            count = len(pictures)
            episode = bench.reset(seed)
            bench.wait(lambda count=count: len(pictures) > count, "the next goal")
            begun = nanoseconds(bench.wait(lambda number=episode: bench.statuses(number), "a status")[0].header.stamp)
            assert nanoseconds(pictures[-1].header.stamp) < begun
        assert [(picture.height, picture.width) for picture in pictures] == [(84, 84)] * 3
        assert bytes(pictures[0].data) == bytes(pictures[2].data)  # one start, one goal
        assert bytes(pictures[0].data) != bytes(pictures[1].data)
        start = bytes(bench.received["/camera/front/image_raw"][0].data)
        assert bytes(pictures[0].data) != start  # not where it begins
    finally:
        assert bench.close() == 0
