"""The launch files run with the real launch system, where that is installed."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not from PyPI")

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.launch_description_sources import PythonLaunchDescriptionSource

from vla_ros.rollouts.process_group import NODE_FOLDERS
from vla_ros.rollouts.ros_environment import RosDomain, run_environment

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NODES = ("policy_node", "sim_robot_node", "expert_node", "bag_recorder_node")
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [tuple(argument.split(":=", 1)) for argument in sys.argv[2:]]
service = LaunchService()
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


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
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ament prefix that looks as if this checkout had been built and installed there."""
    prefix = tmp_path_factory.mktemp("prefix")
    (prefix / "share" / "ament_index" / "resource_index" / "packages").mkdir(parents=True)
    (prefix / "share" / "ament_index" / "resource_index" / "packages" / "vla_ros").touch()
    (prefix / "share" / "vla_ros").symlink_to(ROOT)
    library = prefix / "lib" / "vla_ros"
    library.mkdir(parents=True)
    for node in NODES:
        script = library / node
        script.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -m vla_ros.nodes.{NODE_FOLDERS[node]}.{node} "$@"\n', encoding="utf-8"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return prefix


@pytest.fixture
def environment(prefix: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}{os.pathsep}{prefixes}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    return dict(os.environ)


def launched(path: Path) -> LaunchDescription:
    return PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())


def declared_in(path: Path) -> dict[str, DeclareLaunchArgument]:
    return {e.name: e for e in launched(path).entities if isinstance(e, DeclareLaunchArgument)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_makes_a_launch_description(path: Path, environment: dict[str, str]) -> None:
    assert launched(path).entities


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path, environment: dict[str, str]) -> None:
    described = declared_in(path)
    assert described
    assert all(argument.description for argument in described.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_default_path_leads_to_something_that_ships(path: Path, environment: dict[str, str]) -> None:
    context = LaunchContext()
    for name, argument in declared_in(path).items():
        default = "".join(part.perform(context) for part in argument.default_value or ())
        if default.startswith("/") and not name.endswith("_topic"):
            assert Path(default).exists(), f"{name}: {default}"


Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def launch(environment: dict[str, str], tmp_path: Path) -> Iterator[Launch]:
    """Run a launch file in a process of its own, interrupted at the end as by Ctrl-C."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str, **arguments: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", RUN, str(ROOT / "launch" / f"{name}.launch.py")]
        command += [f"{key}:={value}" for key, value in arguments.items()]
        with (tmp_path / "output.txt").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=tmp_path,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", log: Path, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        text = log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"launch ended before {what}:\n{text}"
        assert time.monotonic() < deadline, f"waited in vain for {what}:\n{text}"
        time.sleep(0.1)


@pytest.mark.slow
def test_replay_evaluation_ends_with_the_sentence_of_what_is_missing(launch: Launch, tmp_path: Path) -> None:
    process = launch("replay_evaluation", bag=tmp_path / "no_bag", checkpoint=tmp_path / "no_checkpoint")
    process.wait(60)
    assert "no such checkpoint folder" in (tmp_path / "output.txt").read_text(encoding="utf-8")


@pytest.mark.ros
@pytest.mark.slow
def test_record_starts_the_recorder_with_its_parameters(launch: Launch, tmp_path: Path) -> None:
    contract = ROOT / "test" / "robots" / "test_arm.yaml"
    process = launch("record", contract=contract, output=tmp_path / "bags", episode_status_topic="")
    log = tmp_path / "output.txt"
    wait_for(lambda: node_is_there("bag_recorder"), process, log, "the recorder")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) in (0, 1, -signal.SIGINT), log.read_text(encoding="utf-8")
    assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.mark.ros
@pytest.mark.slow
def test_policy_says_in_one_sentence_which_checkpoint_is_missing(launch: Launch, tmp_path: Path) -> None:
    contract = ROOT / "test" / "robots" / "test_arm.yaml"
    process = launch("policy", contract=contract, checkpoint=tmp_path / "no_policy")
    log = tmp_path / "output.txt"
    wait_for(
        lambda: "no_policy: no such checkpoint folder" in log.read_text(encoding="utf-8"), process, log, "the error"
    )
    assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.mark.ros
@pytest.mark.egl
@pytest.mark.slow
def test_sim_demo_starts_a_robot_that_the_policy_commands(launch: Launch, tmp_path: Path) -> None:
    process = launch("sim_demo", lock_step="true")
    log = tmp_path / "output.txt"
    wait_for(lambda: node_is_there("sim_robot") and node_is_there("policy_node"), process, log, "both nodes")
    wait_for(lambda: messages_on("/end_effector/action") > 5, process, log, "commands")


def node_is_there(name: str) -> bool:
    """Whether a node of this name is in the graph; asked in this process, through a context of its own."""
    return name in _Watcher.get().node.get_node_names()


def messages_on(topic: str) -> int:
    watcher = _Watcher.get()
    watcher.watch(topic)
    watcher.executor.spin_once(timeout_sec=0.1)
    return watcher.counts[topic]


class _Watcher:
    """One ROS node for all tests of this module."""

    _instance: "_Watcher | None" = None

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("launch_test_watcher", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.counts: dict[str, int] = {}

    @classmethod
    def get(cls) -> "_Watcher":
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    def watch(self, topic: str) -> None:
        from vla_ros_msgs.msg import EndEffectorAction

        if topic not in self.counts:
            self.counts[topic] = 0
            self.node.create_subscription(EndEffectorAction, topic, lambda _: self._count(topic), 10)

    def _count(self, topic: str) -> None:
        self.counts[topic] += 1


@pytest.fixture(scope="module", autouse=True)
def _close_watcher() -> Iterator[None]:
    yield
    watcher = _Watcher._instance
    if watcher is not None:
        watcher.node.destroy_node()
        watcher.context.shutdown()
        _Watcher._instance = None
