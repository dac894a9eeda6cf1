"""The policy node over DDS, in a process of its own, against a robot that is only publishers and subscribers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs.msg")

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_ros.checkpoint import save_checkpoint
from vla_ros.contract import GOAL_IMAGE, RobotContract, load_contract
from vla_ros.policies import build_policy
from vla_ros.processors import ProcessorOptions, Processors
from vla_ros.rollouts.ros_environment import RosDomain
from vla_ros_msgs.msg import EndEffectorAction, PolicyStatus
from vla_ros_msgs.srv import LoadPolicy, SetInstruction

pytestmark = pytest.mark.ros

CAMERA, STATE = "observation.images.front", "observation.state"
PERIOD_S = 0.05
MAX_AGE_S = 0.3
PATIENCE_S = 30.0


def tiny_contract(folder: Path, **changes: Any) -> Path:
    """One small camera and a position in; a displacement and a gripper out; no simulation."""
    content = {
        "robot_type": "test_gripper",
        "fps": 20,
        "max_wait_s": 0.04,
        "inputs": [
            {
                "key": CAMERA,
                "topic": "/camera",
                "type": "sensor_msgs/msg/Image",
                "image": {"height": 32, "width": 32},
                "max_age_s": MAX_AGE_S,
            },
            {
                "key": STATE,
                "topic": "/pose",
                "type": "geometry_msgs/msg/PoseStamped",
                "fields": ["pose.position.x", "pose.position.y", "pose.position.z"],
                "max_age_s": MAX_AGE_S,
            },
        ],
        "action": {
            "representation": "displacement",
            "names": ["dx", "dy", "dz", "gripper"],
            "units": ["m", "m", "m", "1"],
            "gripper": {"name": "gripper", "open": -1.0, "closed": 1.0},
            "record": {"topic": "/command", "type": "vla_ros_msgs/msg/EndEffectorAction", "max_age_s": 0.1},
            "sinks": [{"topic": "/command", "type": "vla_ros_msgs/msg/EndEffectorAction", "qos": {"depth": 50}}],
            "limits": {"max_speed": 0.2},
        },
        "instruction": {"topic": "/instruction", "default": "wait"},
        **changes,
    }
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def tiny_checkpoint(folder: Path, contract: RobotContract, seed: int, *keys: str) -> Path:
    torch.manual_seed(seed)
    features = contract.policy_features
    ones = {key: np.ones(spec.shape[-1:]) for key, spec in features.items()}
    statistics = {
        key: {"min": -one, "max": one, "mean": 0 * one, "std": one, "q01": -one, "q99": one}
        for key, one in ones.items()
    }
    inputs = {key: features[key] for key in (CAMERA, STATE, *keys)}
    processors = Processors(inputs, features["action"], ProcessorOptions(), statistics)
    plain = processors.to_dict()
    config = {"inputs": plain["inputs"], "action": plain["action"], "action_horizon": 8}
    if GOAL_IMAGE in keys:
        name, options = "grp", {"width": 16, "depth": 1, "n_heads": 2, "text": None}
    else:
        name, options = "bc", {"hidden_dims": [8]}
    policy = build_policy(name, {**config, **options})
    return save_checkpoint(folder / f"checkpoint_{seed}", policy, processors, contract, {})


class Robot:
    """Publishes sensors at 20 Hz in a thread and keeps what the node says."""

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.silent: set[str] = set()
        self.camera_behind_ns = 0
        self.late: list[DiagnosticArray] = []
        self.last_sent_s: dict[str, float] = {}
        self.commands: list[tuple[float, EndEffectorAction]] = []
        self.status = PolicyStatus()
        self.diagnostics = DiagnosticArray()
        self._image = Image(height=32, width=32, step=96, encoding="rgb8", data=bytes(32 * 96))
        publish = self.node.create_publisher
        self._publishers = {
            CAMERA: publish(Image, "/camera", qos_profile_sensor_data),
            STATE: publish(PoseStamped, "/pose", qos_profile_sensor_data),
        }
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.instruction = publish(String, "/instruction", latched)
        subscribe = self.node.create_subscription
        subscribe(EndEffectorAction, "/command", self._on_command, 50)
        subscribe(PolicyStatus, "/policy_node/status", self._on_status, latched)
        subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, 1)
        subscribe(DiagnosticArray, "/policy_node/late_samples", self.late.append, 100)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._publish, self._spin)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self.node.destroy_node()
        self.context.try_shutdown()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}; status is {self.status.state}: {self.status.message}"
            time.sleep(0.01)

    def wait_for_state(self, state: int) -> None:
        self.wait(lambda: bool(self.status.state == state), f"never reached state {state}")

    def wait_for_commands(self, more: int) -> None:
        target = len(self.commands) + more
        self.wait(lambda: len(self.commands) >= target, "too few commands")

    def call(self, kind: Any, name: str, **fields: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.wait(client.service_is_ready, f"no service {name}")
        future = client.call_async(kind.Request(**fields))
        self.wait(future.done, f"{name} did not answer")
        self.node.destroy_client(client)
        return future.result()

    def change_state(self, transition: int) -> bool:
        request = Transition(id=transition)
        return bool(self.call(ChangeState, "/policy_node/change_state", transition=request).success)

    def _publish(self) -> None:
        while not self._ended.wait(PERIOD_S):
            now = self.node.get_clock().now()
            stamp = now.to_msg()
            pose = PoseStamped()
            pose.pose.position.x = 0.1
            pose.header.stamp = stamp
            self._image.header.stamp = (now - Duration(nanoseconds=self.camera_behind_ns)).to_msg()
            for key, message in ((CAMERA, self._image), (STATE, pose)):
                if key not in self.silent:
                    self.last_sent_s[key] = stamp.sec + stamp.nanosec * 1e-9
                    self._publishers[key].publish(message)

    def _spin(self) -> None:
        while not self._ended.is_set():
            self.executor.spin_once(timeout_sec=0.05)

    def _on_command(self, message: EndEffectorAction) -> None:
        self.commands.append((message.header.stamp.sec + message.header.stamp.nanosec * 1e-9, message))

    def _on_status(self, message: PolicyStatus) -> None:
        self.status = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics = message


def is_zero(command: EndEffectorAction) -> bool:
    linear = command.linear
    return bool(linear.x == linear.y == linear.z == 0.0 and command.chunk_id == 0)


def command_line(checkpoint: Path, **parameters: Any) -> list[str]:
    values = {"checkpoint": checkpoint, "autostart": "true", "enable_control": "true", **parameters}
    pairs = [item for name, value in values.items() for item in ("-p", f"{name}:={value}")]
    return [sys.executable, "-m", "vla_ros.nodes.policy.policy_node", "--ros-args", *pairs]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    domain = RosDomain()
    root = str(Path(__file__).parents[2])
    settings = {
        "ROS_DOMAIN_ID": str(domain.number),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    yield {**os.environ, **settings}
    domain.release()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policy_node")


@pytest.fixture(scope="module")
def checkpoints(folder: Path) -> list[Path]:
    contract = load_contract(tiny_contract(folder))
    return [tiny_checkpoint(folder, contract, seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def robot(environment: dict[str, str]) -> Iterator[Robot]:
    robot = Robot(int(environment["ROS_DOMAIN_ID"]))
    yield robot
    robot.close()


@pytest.fixture
def run_node(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start nodes, and end those that a test leaves behind."""
    started: list[subprocess.Popen[str]] = []

    def start(checkpoint: Path, **parameters: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command_line(checkpoint, **parameters), env=environment, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="class")
def node(environment: dict[str, str], robot: Robot, checkpoints: list[Path]) -> Iterator[subprocess.Popen[bytes]]:
    """One node for the tests that leave it running."""
    process = subprocess.Popen(command_line(checkpoints[0]), env=environment)
    robot.wait_for_state(PolicyStatus.RUNNING)
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    robot.wait(lambda: is_zero(robot.commands[-1][1]), "the last command before the end was not zero motion")


@pytest.mark.usefixtures("node")
class TestRunning:
    """One node serves all of these; each leaves it running."""

    def test_it_commands_at_its_rate_from_chunks_indexed_by_time(self, robot: Robot) -> None:
        first = len(robot.commands)
        robot.wait_for_commands(20)
        stamps = np.array([stamp for stamp, _ in robot.commands[first:]])
        steps = np.diff(stamps) / PERIOD_S
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)  # on the grid of the control rate
        assert np.median(steps) == pytest.approx(1.0, abs=1e-3)
        for stamp, command in robot.commands[first:]:
            observed = command.observation_stamp.sec + command.observation_stamp.nanosec * 1e-9
            assert command.chunk_id > 0
            assert command.chunk_index == round((stamp - observed) / PERIOD_S)

    def test_samples_that_come_after_their_tick_are_published_with_the_tick_that_missed_them(
        self, robot: Robot
    ) -> None:
        robot.camera_behind_ns, first = 150_000_000, len(robot.late)  # within max_age_s, beyond max_wait_s
        robot.wait(lambda: len(robot.late) > first + 2, "no late samples")
        robot.camera_behind_ns = 0
        (camera,) = [status for status in robot.late[-1].status if status.name == "/camera"]
        for pair in camera.values:
            stamp_ns, missed_ns = int(pair.key.removeprefix("@")), int(pair.value)
            assert 0 <= missed_ns - stamp_ns < 150_000_000
        robot.wait_for_state(PolicyStatus.RUNNING)

    def test_a_camera_that_hangs_and_a_second_publisher_are_told_while_it_runs(self, robot: Robot) -> None:
        robot.wait_for_state(PolicyStatus.RUNNING)
        robot.wait(lambda: "the same content under fresh stamps" in robot.status.message, "not told")  # always black
        second = robot.node.create_publisher(Image, "/camera", qos_profile_sensor_data)

        def camera_says(words: str) -> bool:
            entries = [entry for entry in robot.diagnostics.status if entry.name.endswith(": /camera")]
            return any(entry.level == DiagnosticStatus.WARN and words in entry.message for entry in entries)

        robot.wait(lambda: camera_says("has 2 publishers"), "the second publisher is not told")
        assert camera_says("the same content under fresh stamps")
        assert "more in the diagnostics" in robot.status.message
        robot.node.destroy_publisher(second)
        robot.wait(lambda: not camera_says("publishers"), "still told")
        assert robot.status.state == PolicyStatus.RUNNING

    def test_an_unplugged_camera_stops_it_within_the_limit_and_it_resumes(self, robot: Robot) -> None:
        robot.wait_for_state(PolicyStatus.RUNNING)
        robot.silent.add(CAMERA)
        robot.wait_for_state(PolicyStatus.STOPPED)
        assert robot.status.missing == [CAMERA]
        assert robot.status.ages[0] > MAX_AGE_S
        assert "/camera" in robot.status.message
        assert "resume" in robot.status.message
        robot.wait(lambda: is_zero(robot.commands[-1][1]), "no zero command")
        count = len(robot.commands)
        moving = [stamp for stamp, command in robot.commands if not is_zero(command)]
        assert moving[-1] <= robot.last_sent_s[CAMERA] + MAX_AGE_S + PERIOD_S
        assert sum(is_zero(command) for _, command in robot.commands[-5:]) == 1  # then silence
        robot.silent.clear()
        robot.wait_for_state(PolicyStatus.RUNNING)
        robot.wait_for_commands(3)
        assert not is_zero(robot.commands[count][1])
        assert robot.status.missing == []

    def test_a_new_instruction_comes_by_service_and_by_topic(self, robot: Robot) -> None:
        assert robot.status.instruction == "wait"
        assert robot.call(SetInstruction, "/policy_node/set_instruction", instruction="push").success
        robot.wait(lambda: bool(robot.status.instruction == "push"), "the service changed nothing")
        robot.instruction.publish(String(data="pull"))
        robot.wait(lambda: bool(robot.status.instruction == "pull"), "the topic changed nothing")
        robot.wait_for_state(PolicyStatus.RUNNING)

    def test_a_stop_latches_until_it_is_reset(self, robot: Robot) -> None:
        assert robot.call(Trigger, "/policy_node/stop").success
        robot.wait_for_state(PolicyStatus.STOPPED)
        assert "reset_stop" in robot.status.message
        robot.wait(lambda: is_zero(robot.commands[-1][1]), "no zero command")
        assert robot.call(Trigger, "/policy_node/reset_stop").success
        robot.wait_for_state(PolicyStatus.RUNNING)

    def test_another_policy_takes_over_and_a_missing_one_changes_nothing(
        self, robot: Robot, checkpoints: list[Path]
    ) -> None:
        refused = robot.call(LoadPolicy, "/policy_node/load_policy", checkpoint="/no/such/folder")
        assert not refused.success
        assert "/no/such/folder" in refused.message
        assert robot.call(LoadPolicy, "/policy_node/load_policy", checkpoint=str(checkpoints[1])).success
        robot.wait(lambda: bool(robot.status.checkpoint == str(checkpoints[1])), "the status names the old one")
        newest = max(command.chunk_id for _, command in robot.commands)
        robot.wait(lambda: robot.commands[-1][1].chunk_id > newest, "the new policy's chunks do not count on")

    def test_without_enable_control_no_command_is_published(self, robot: Robot) -> None:
        def enable(value: bool) -> None:
            parameter = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
            parameters = [Parameter(name="enable_control", value=parameter)]
            assert robot.call(SetParameters, "/policy_node/set_parameters", parameters=parameters).results[0].successful

        enable(False)
        robot.wait(lambda: not robot.status.enable_control and is_zero(robot.commands[-1][1]), "it went on commanding")
        count, published = len(robot.commands), robot.status.commands
        robot.diagnostics = DiagnosticArray()
        robot.wait(lambda: len(robot.diagnostics.status) > 0, "no diagnostics")
        assert len(robot.commands) == count
        assert robot.status.commands == published
        assert robot.status.state == PolicyStatus.RUNNING
        enable(True)
        robot.wait_for_commands(2)

    def test_diagnostics_tell_inputs_latency_and_contract(self, robot: Robot, folder: Path) -> None:
        robot.diagnostics = DiagnosticArray()
        robot.wait(lambda: len(robot.diagnostics.status) == 4, "no diagnostics")  # node, two sensors, instruction
        entries = {entry.name: {pair.key: pair.value for pair in entry.values} for entry in robot.diagnostics.status}
        assert entries["policy_node: policy"]["contract_hash"] == load_contract(folder / "contract.yaml").hash
        assert float(entries["policy_node: policy"]["inference_p99_ms"]) > 0
        assert float(entries["policy_node: /camera"]["rate_hz"]) > 5

    def test_deactivating_commands_zero_and_it_can_be_activated_again(self, robot: Robot) -> None:
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        robot.wait_for_state(PolicyStatus.INACTIVE)
        robot.wait(lambda: is_zero(robot.commands[-1][1]), "no zero command")
        assert robot.change_state(Transition.TRANSITION_CLEANUP)
        assert robot.change_state(Transition.TRANSITION_CONFIGURE)
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        robot.wait_for_state(PolicyStatus.RUNNING)


def test_killing_it_just_ends_the_commands(
    robot: Robot, checkpoints: list[Path], run_node: Callable[..., subprocess.Popen[str]]
) -> None:
    robot.commands.clear()
    process = run_node(checkpoints[0])
    robot.wait(lambda: len(robot.commands) > 5, "no commands")
    process.kill()
    process.wait()
    ended_s = time.time()
    robot.wait(lambda: time.time() > ended_s + 5 * PERIOD_S, "")
    assert robot.commands[-1][0] <= ended_s + PERIOD_S


def test_a_robot_that_the_policy_was_not_trained_on_is_refused_and_the_process_lives(
    robot: Robot, checkpoints: list[Path], tmp_path: Path, run_node: Callable[..., subprocess.Popen[str]]
) -> None:
    other = tiny_contract(tmp_path, fps=10)
    process = run_node(checkpoints[0], contract=other, exit_on_failure="false")
    robot.wait(lambda: "does not fit" in robot.status.message, "no refusal")
    assert "fps was 20, now 10" in robot.status.message
    assert robot.status.state == PolicyStatus.INACTIVE
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_a_policy_with_a_goal_waits_for_its_picture_and_stops_for_one_that_is_none(
    environment: dict[str, str], robot: Robot, tmp_path: Path
) -> None:
    contract = load_contract(tiny_contract(tmp_path, goal={"topic": "/goal_image", "camera": CAMERA}))
    process = subprocess.Popen(command_line(tiny_checkpoint(tmp_path, contract, 3, GOAL_IMAGE)), env=environment)
    try:
        robot.wait(lambda: GOAL_IMAGE in robot.status.missing, "the missing goal was not named")
        assert "nothing received on /goal_image" in robot.status.message
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        goal = robot.node.create_publisher(Image, "/goal_image", latched)
        whole = {"height": 32, "width": 32, "step": 96, "encoding": "rgb8"}
        for level in (0, 255):
            goal.publish(Image(**whole, data=bytes([level]) * (32 * 96)))
            robot.wait_for_state(PolicyStatus.RUNNING)
            robot.wait(lambda: not is_zero(robot.commands[-1][1]), "it does not move towards its goal")
        goal.publish(Image(**whole, data=bytes(7)))
        robot.wait_for_state(PolicyStatus.STOPPED)
        assert robot.status.missing == [GOAL_IMAGE]
        robot.wait(lambda: is_zero(robot.commands[-1][1]), "no zero command")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        robot.node.destroy_publisher(goal)


def test_what_the_user_can_mend_ends_in_one_sentence_and_an_exit_code(environment: dict[str, str]) -> None:
    line = command_line(Path("/no/such/folder"))
    ended = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 2
    assert "/no/such/folder: no such checkpoint folder" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
