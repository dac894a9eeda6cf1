"""All processes of a rollout over real DDS, under an untrained policy that drives the arm steadily along +x."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs.msg", reason="the interfaces are not built")
pytest.importorskip("vla_ros.sim.metaworld.tasks", exc_type=ImportError)  # before mujoco, whose backend it chooses
torch = pytest.importorskip("torch")

from geometry_msgs.msg import PoseStamped  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402

from vla_ros.checkpoint import save_checkpoint  # noqa: E402
from vla_ros.cli.convert import find_bags  # noqa: E402
from vla_ros.contract import load_contract  # noqa: E402
from vla_ros.converters import convert_bags  # noqa: E402
from vla_ros.data_types import NANOSECONDS, UserError  # noqa: E402
from vla_ros.datasets import EpisodeDataset  # noqa: E402
from vla_ros.policies import build_policy  # noqa: E402
from vla_ros.processors import ProcessorOptions, Processors  # noqa: E402
from vla_ros.rollouts.demonstrations import DemonstrationOptions, record_demonstrations  # noqa: E402
from vla_ros.rollouts.over_ros import RolloutOptions, rollout_session, run_rollout  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.egl, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
ROBOT = ROOT / "config/robots/metaworld_sawyer.yaml"
INPUTS = ("observation.images.front", "observation.images.wrist", "observation.state")
TICK_NS = NANOSECONDS // 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy whose every action moves 4 to 8 mm along +x in a period."""
    contract = load_contract(ROBOT)
    features = {key: contract.features[key] for key in INPUTS}
    statistics: dict[str, Any] = {
        key: {"mean": np.zeros(1), "std": np.ones(1)} if spec.kind == "image" else _unit(spec.shape[0])
        for key, spec in features.items()
    }
    for key, spec in features.items():
        if spec.kind == "image":
            statistics[key] = {"mean": np.full((3, 1, 1), 0.5), "std": np.full((3, 1, 1), 0.25)}
    statistics["action"] = {"min": np.array([0.004, -1e-4, -1e-4, -1.0]), "max": np.array([0.008, 1e-4, 1e-4, 1.0])}
    torch.manual_seed(0)
    processors = Processors(features, contract.features["action"], ProcessorOptions(), statistics)
    config = {"inputs": processors.policy_inputs, "action": processors.action, "hidden_dims": [8], "action_horizon": 8}
    folder = tmp_path_factory.mktemp("checkpoint") / "untrained"
    return save_checkpoint(folder, build_policy("bc", config), processors, contract)


def _unit(size: int) -> dict[str, Any]:
    return {"mean": np.zeros(size), "std": np.ones(size), "min": -np.ones(size), "max": np.ones(size)}


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_in_lock_step_every_tick_is_answered_by_one_command_of_its_own_observation(
    checkpoint: Path, tmp_path: Path
) -> None:
    options = RolloutOptions(
        contract=ROBOT, output=tmp_path, checkpoint=checkpoint, episodes=1, time_limit_s=0.6, lock_step=True,
        record_episodes=1,
    )  # fmt: skip
    (trace,) = run_rollout(options, lambda _: None)
    assert not trace.success
    assert trace.time_s >= 0.6
    decided = [command for command in trace.commands if command.observation_ns]  # not the stop at the reset
    answered = [command.observation_ns for command in decided]
    assert all(observation_ns % TICK_NS == 0 for observation_ns in answered)
    assert all(command.effect_ns == command.observation_ns for command in decided)
    assert np.array_equal(np.diff(answered), np.full(len(answered) - 1, TICK_NS))
    assert len(answered) >= 10
    assert all(len(images) >= 10 for images in trace.images.values())
    assert set(trace.images) == set(INPUTS[:2])
    in_process = np.stack([command.action for command in commands_in_process(checkpoint)])
    over_dds = np.stack([command.action for command in decided])
    shared = min(len(in_process), len(over_dds))
    assert np.array_equal(over_dds[:shared], in_process[:shared]), "topics must change nothing but the time it takes"


def commands_in_process(checkpoint: Path) -> list[Any]:
    from vla_ros.rollouts.in_process import make_driver, run_in_process
    from vla_ros.sim import SimRequest, make_robot

    contract = load_contract(ROBOT)
    robot = make_robot("metaworld", SimRequest(contract))
    try:
        driver = make_driver("checkpoint", contract, checkpoint=str(checkpoint))
        (trace,) = run_in_process(robot, contract, driver, episodes=1, first_seed=0, time_limit_s=0.6)
    finally:
        robot.close()
    return trace.commands


def test_killing_the_policy_node_stops_the_robot_within_a_fifth_of_a_second(checkpoint: Path, tmp_path: Path) -> None:
    options = RolloutOptions(contract=ROBOT, output=tmp_path, checkpoint=checkpoint)
    halted: list[tuple[int, bool]] = []
    poses: list[tuple[int, np.ndarray]] = []

    def on_pose(message: PoseStamped) -> None:
        stamp, at = message.header.stamp, message.pose.position
        poses.append((stamp.sec * NANOSECONDS + stamp.nanosec, np.array([at.x, at.y, at.z])))
        status = session.client.robot_status
        halted.append((status.header.stamp.sec * NANOSECONDS + status.header.stamp.nanosec, status.halted))

    with rollout_session(options) as session:
        session.client.node.create_subscription(PoseStamped, "/end_effector/pose", on_pose, qos_profile_sensor_data)
        wait_for(lambda: len(poses) > 10 and not halted[-1][1])
        session.driver.send(signal.SIGKILL)
        assert session.driver.wait(10.0)
        killed_ns = poses[-1][0] + TICK_NS  # the newest tick seen is at most a period old
        wait_for(lambda: poses[-1][0] >= killed_ns + NANOSECONDS)
    moved_before = np.linalg.norm(poses[-1][1] - poses[0][1])
    stopped = [position for stamp_ns, position in poses if stamp_ns >= killed_ns + NANOSECONDS // 5]
    assert moved_before > 0.01, "the policy must have been driving the arm"
    assert len(stopped) >= 10
    assert max(np.linalg.norm(position - stopped[0]) for position in stopped) < 1e-3
    first_halt_ns = next(stamp_ns for stamp_ns, is_halted in halted if is_halted and stamp_ns >= killed_ns - TICK_NS)
    assert first_halt_ns - killed_ns <= NANOSECONDS // 5


def test_a_demonstration_becomes_a_bag_and_the_bag_a_dataset(tmp_path: Path) -> None:
    options = DemonstrationOptions(contract=ROBOT, output=tmp_path / "bags", episodes=1, instruction="shove the puck")
    notes: list[str] = []
    report = record_demonstrations(options, notes.append)
    assert (report.kept, len(notes)) == (1, 1)
    convert_bags(
        find_bags(options.output), load_contract(ROBOT), tmp_path / "dataset", image_storage="png", progress=False
    )
    dataset = EpisodeDataset(tmp_path / "dataset")
    assert dataset.n_episodes == 1
    assert dataset.task(0) == "shove the puck"
    # Every tick that was recorded is in it but the last, whose command the recorder may not have lived to hear, and the
    # first: from the beginning to success at some 3 s, and as much rest as there was until the recorder ended.
    ticks = float(notes[0].partition("success after ")[2].partition(" s")[0]) * 20
    (facts,) = options.output.glob("*/episode.json")
    recorded = json.loads(facts.read_text())["messages"]["/joint_states"]
    assert ticks - 2 <= dataset.lengths[0]
    assert recorded - 3 <= dataset.lengths[0] <= recorded


def test_a_policy_that_does_not_fit_the_robot_ends_the_rollout_with_its_sentence(
    checkpoint: Path, tmp_path: Path
) -> None:
    slower = tmp_path / "slower.yaml"
    text = ROBOT.read_text().replace("fps: 20 ", "fps: 10 ")
    slower.write_text(text.replace("control_rate_hz: 20", "control_rate_hz: 10"))
    with pytest.raises(UserError, match="fps was 20, now 10"):
        run_rollout(RolloutOptions(contract=slower, output=tmp_path, checkpoint=checkpoint), lambda _: None)


def test_an_interrupted_rollout_leaves_no_process_behind(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["rollout", "--checkpoint", str(checkpoint), "--output", str(tmp_path), "--episodes", "1"]
    run = subprocess.Popen(
        # background jobs of a shell ignore the signal, and so would this process
        ["env", "--default-signal=INT", sys.executable, "-m", "vla_ros.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    assert "starting the simulated robot" in run.stdout.readline()
    children = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    assert len(children) == 2
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted"
    assert not any(is_alive(pid) for pid in children)
