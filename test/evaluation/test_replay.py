"""A replay runs a bag through the runtime: exact where the policy is simple, repeatable, clear when it cannot."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vla_ros.checkpoint import Checkpoint, save_checkpoint
from vla_ros.contract import RobotContract, load_contract, parse_contract
from vla_ros.data_types import CheckpointError, ConfigError, ContractError, DatasetError
from vla_ros.evaluation import replay
from vla_ros.evaluation.replay import replay_bag
from vla_ros.policies import build_policy
from vla_ros.policies.base import Policy, PolicyConfig, PolicyOutput
from vla_ros.processors import ProcessorOptions, Processors

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robots"))
import fake_arm

KEYS = ("observation.images.overhead", "observation.state", "observation.tool")
START_NS = 1_700_000_000 * fake_arm.SECOND
NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw")


class Echo(Policy):
    """Commands the tool pose that it sees, for every step of the chunk."""

    name = "echo"
    config_class = PolicyConfig

    def compute_loss(self, batch: Any, generator: Any = None) -> Any:
        raise NotImplementedError

    def predict_action_chunk(self, observation: Any, state: Any = None, generator: Any = None) -> PolicyOutput:
        pose = observation["observation.tool"][:, -1]
        return PolicyOutput(pose[:, None].repeat(1, self.config.action_horizon, 1))


def contract_recording_the_tool() -> RobotContract:
    """The fake arm, with what the tool does as the recorded action: an echo of it makes no error."""
    content = yaml.safe_load(fake_arm.CONTRACT.read_text(encoding="utf-8"))
    content["action"]["record"].update(topic="/arm/tool_pose", alignment={"method": "interpolate"})
    content["action"].pop("limits")
    return parse_contract(content, "echo_arm.yaml")


def processors_of(contract: RobotContract, keys: tuple[str, ...], **options: Any) -> Processors:
    features = contract.features
    statistics = {
        key: {
            "min": np.full(features[key].shape[-1:], -1.0),
            "max": np.full(features[key].shape[-1:], 1.0),
            "mean": np.zeros(features[key].shape[-1:]),
            "std": np.ones(features[key].shape[-1:]),
        }
        for key in (*keys, "action")
    }
    inputs = {key: features[key] for key in keys}
    return Processors(inputs, features["action"], ProcessorOptions(**options), statistics)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_arm.write_bag(tmp_path_factory.mktemp("bags") / "episode_000", START_NS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy with two frames of history and chunks of five."""
    contract = load_contract(fake_arm.CONTRACT)
    torch.manual_seed(0)
    processors = processors_of(contract, KEYS)
    config = {
        "inputs": processors.to_dict()["inputs"],
        "action": processors.to_dict()["action"],
        "n_obs_steps": 2,
        "action_horizon": 5,
        "n_action_steps": 1,
        "hidden_dims": [16],
    }
    return save_checkpoint(
        tmp_path_factory.mktemp("checkpoints") / "tiny", build_policy("bc", config), processors, contract, {}
    )


EchoReplay = Callable[..., Any]


@pytest.fixture
def echo_replay(bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EchoReplay:
    """Replay the bag with the echo policy."""
    contract = contract_recording_the_tool()
    identity = processors_of(contract, ("observation.tool",), vectors="identity", action="identity")

    def run(horizon: int = 5, bag: Path = bag, **options: Any) -> Any:
        config = PolicyConfig(
            inputs=dict(identity.inputs), action=identity.action, action_horizon=horizon, n_action_steps=1
        )
        loaded = Checkpoint(tmp_path / "echo", Echo(config), identity, contract, {})
        monkeypatch.setattr(replay, "load_checkpoint", lambda *_: loaded)
        monkeypatch.setattr(replay, "_robot_contract", lambda *_: contract)
        monkeypatch.setattr(replay, "plot_replay", lambda *_: None)  # another test draws
        return replay_bag(bag, tmp_path / "echo", None, tmp_path / "out", **options)

    return run


def distance_moved(seconds: float, stamps_ns: list[int]) -> float:
    """Mean absolute change of x over a time, at the given ticks."""
    times = [stamp_ns / fake_arm.SECOND % 100.0 for stamp_ns in stamps_ns]
    return float(np.mean([abs(fake_arm.tool(t)[0] - fake_arm.tool(t - seconds)[0]) for t in times]))


def test_a_policy_that_commands_what_was_recorded_has_no_error(echo_replay: EchoReplay) -> None:
    result = echo_replay()
    errors = result.summary["errors"]
    assert result.summary["ticks_compared"] == result.summary["ticks"] > 20
    assert max(errors[name]["max"] for name in NAMES) < 1e-6
    assert errors["x"]["correlation"] == pytest.approx(1.0)
    assert result.summary["rotation_error_rad"]["max"] < 1e-3


def test_latency_makes_the_command_as_old_as_the_latency_says(echo_replay: EchoReplay) -> None:
    result = echo_replay(latency_s=0.2)
    stamps_ns = [stamp_ns for stamp_ns in result.trace.stamps_ns if stamp_ns in result.trace.commands]
    # one prediction at a time: of every two ticks one is answered, two ticks later, and its chunk serves two ticks
    assert result.summary["predictions"] == pytest.approx(len(result.trace.stamps_ns) / 2, abs=1)
    assert result.summary["ticks_without_command"] == 2
    expected = np.mean([distance_moved(0.2, stamps_ns[0::2]), distance_moved(0.3, stamps_ns[1::2])])
    assert result.summary["errors"]["x"]["mae"] == pytest.approx(expected, rel=0.02)


def test_a_later_step_of_a_constant_chunk_is_as_wrong_as_the_robot_moves_in_that_time(echo_replay: EchoReplay) -> None:
    result = echo_replay(horizon=4)
    rows = result.summary["horizon"]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert [row["compared"] for row in rows] == [result.summary["ticks"] - step for step in range(4)]
    assert rows[0]["mae"]["x"] < 1e-6
    for row in rows[1:]:
        moved = distance_moved(row["time_s"], result.trace.stamps_ns[row["step"] :])
        assert row["mae"]["x"] == pytest.approx(moved, rel=0.02)


def test_commands_come_at_the_control_rate_and_ticks_are_among_them(echo_replay: EchoReplay) -> None:
    trace = echo_replay().trace
    assert set(trace.stamps_ns) <= set(trace.commands)
    assert len(trace.commands) == 3 * (len(trace.stamps_ns) - 1) + 1


def test_ticks_lie_on_the_global_grid(echo_replay: EchoReplay) -> None:
    assert {stamp_ns % (fake_arm.SECOND // 10) for stamp_ns in echo_replay().trace.stamps_ns} == {0}


def test_two_replays_write_the_same_bytes(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    first = replay_bag(bag, checkpoint, fake_arm.CONTRACT, tmp_path / "a")
    second = replay_bag(bag, checkpoint, None, tmp_path / "b")
    assert first.report.read_bytes() == second.report.read_bytes()
    summary = json.loads(first.report.read_text(encoding="utf-8"))
    assert summary["ticks_compared"] == summary["ticks"] == summary["predictions"]
    assert list(summary["errors"]) == list(NAMES)
    assert summary["instruction"] == "draw a circle"
    assert first.plot.read_bytes().startswith(b"\x89PNG")
    assert [line.split()[0] for line in str(first).splitlines()[3:10]] == list(NAMES)


def test_a_silent_camera_is_named_with_the_ticks_it_cost(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "silent"
    with replay_bag_writer(path) as writer:
        for item in fake_arm.messages(START_NS, 3.0):
            silent = START_NS + fake_arm.SECOND < item.receive_ns < START_NS + 2 * fake_arm.SECOND
            if not (silent and item.topic == "/overhead/image_raw"):
                writer.write(*item)
    summary = replay_bag(path, checkpoint, fake_arm.CONTRACT, tmp_path / "out").summary
    missing = summary["missing_inputs"]["observation.images.overhead"]
    assert 5 <= missing["ticks"] <= 8
    assert "last sample on /overhead/image_raw is" in missing["last"]
    assert summary["ticks_without_command"] == missing["ticks"]


def replay_bag_writer(path: Path) -> Any:
    from vla_ros.bags import BagWriter

    return BagWriter(path)


def test_missing_topics_are_named_with_the_nearest_before_anything_runs(checkpoint: Path, tmp_path: Path) -> None:
    path = fake_arm.write_bag(tmp_path / "bag", START_NS, 0.5, without=("/overhead/image_raw", "/teleop/target_pose"))
    with pytest.raises(
        DatasetError, match=r"no topic '/overhead/image_raw' \(sensor_msgs/msg/Image\).*'/teleop/target_pose'"
    ):
        replay_bag(path, checkpoint, None, tmp_path / "out")


def test_a_topic_of_another_type_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with replay_bag_writer(path) as writer:
        for item in fake_arm.messages(START_NS, 0.5):
            topic = "/arm/joint_states" if item.topic == "/arm/tool_pose" else item.topic
            if item.topic != "/arm/joint_states":
                writer.write(topic, *item[1:])
        writer.write(*fake_arm.message("/arm/tool_pose", START_NS))
    with pytest.raises(
        DatasetError, match=r"'/arm/joint_states' is geometry_msgs/msg/PoseStamped in the bag and sensor_msgs"
    ):
        replay_bag(path, checkpoint, fake_arm.CONTRACT, tmp_path / "out")


def test_a_cut_off_bag_says_how_much_there_is(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mcap"
    whole = next(bag.glob("*.mcap")).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"cut\.mcap is cut off .* messages precede the cut"):
        replay_bag(path, checkpoint, fake_arm.CONTRACT, tmp_path / "out")


def test_a_missing_bag_a_missing_checkpoint_and_a_missing_contract_are_each_named(
    bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="episode_00x: no such bag"):
        replay_bag(bag.with_name("episode_00x"), checkpoint, fake_arm.CONTRACT, tmp_path)
    with pytest.raises(CheckpointError, match="no_policy: no such checkpoint"):
        replay_bag(bag, tmp_path / "no_policy", None, tmp_path)
    with pytest.raises(ContractError, match=r"tst_arm\.yaml: no such file. Did you mean 'test_arm\.yaml'\?"):
        replay_bag(bag, checkpoint, fake_arm.CONTRACT.with_name("tst_arm.yaml"), tmp_path)


def test_a_contract_that_means_something_else_than_the_bag_is_refused(
    bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(fake_arm.CONTRACT.read_text(encoding="utf-8").replace("fps: 10", "fps: 15"), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"recorded under contract hash \w+ \(test_arm\), and .*other\.yaml has"):
        replay_bag(bag, checkpoint, other, tmp_path)


def test_a_checkpoint_of_another_robot_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with replay_bag_writer(path) as writer:  # no contract.yaml beside it
        for item in fake_arm.messages(START_NS, 0.5):
            writer.write(*item)
    other = tmp_path / "other.yaml"
    text = fake_arm.CONTRACT.read_text(encoding="utf-8")
    other.write_text(text.replace("[shoulder, elbow,", "[elbow, shoulder,"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="does not fit"):
        replay_bag(path, checkpoint, other, tmp_path / "out")


def test_a_bag_in_which_an_input_never_fits_says_why(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with replay_bag_writer(path) as writer:
        for item in fake_arm.messages(START_NS, 1.0):
            # recorded under the wall clock while the stamps are those of a simulation
            writer.write(item.topic, item.type, item.raw, item.receive_ns - 300 * fake_arm.SECOND)
    with pytest.raises(DatasetError, match=r"No tick of the bag has all inputs of the policy: 'observation\."):
        replay_bag(path, checkpoint, fake_arm.CONTRACT, tmp_path / "out")


def test_a_bag_recorded_across_a_jump_of_the_clock_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with replay_bag_writer(path) as writer:
        writer.write(*fake_arm.message("/arm/tool_pose", 5 * fake_arm.SECOND))
        for item in fake_arm.messages(START_NS, 0.5):
            writer.write(*item)
    with pytest.raises(DatasetError, match="the clock jumped while it was recorded"):
        replay_bag(path, checkpoint, fake_arm.CONTRACT, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "complaint"), [({"latency_s": -0.1}, "latency_s"), ({"chunk_mode": "latst"}, "Did you mean 'latest'")]
)
def test_wrong_options_are_refused(
    bag: Path, checkpoint: Path, tmp_path: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replay_bag(bag, checkpoint, None, tmp_path, **options)
