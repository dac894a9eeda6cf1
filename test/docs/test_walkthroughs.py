"""The pages that say how to add a part are followed as they stand, by somebody who changes nothing here."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
from walkthrough import ROOT, follow

from vla_ros.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.contract import load_contract
from vla_ros.data_types import CheckpointError, ConfigError
from vla_ros.messages.decoders import decode_input
from vla_ros.messages.message_types import deserialize, serialize

pytestmark = pytest.mark.slow


def with_data(folder: Path, **options: Any) -> Path:
    """Put a small dataset where the pages expect the simulated robot's."""
    spec = importlib.util.spec_from_file_location("training_fixtures", ROOT / "test/training/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    (folder / "data").mkdir()
    fixtures.write_dataset(folder / "data/metaworld_push", **options)
    return folder


def parts_of(checkpoint: Path) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = json.loads((checkpoint / "metadata.json").read_text())["parts"]
    return parts


@pytest.mark.egl
def test_a_policy_is_added_as_the_page_says(tmp_path: Path) -> None:
    printed = follow("add_a_policy.md", with_data(tmp_path))
    assert any("my_policy" in line and "my-package 1.0" in line for line in printed.splitlines())
    checkpoint = tmp_path / "out/my_policy/checkpoint"
    assert parts_of(checkpoint) == [
        {"kind": "policies", "name": "my_policy", "package": "my-package", "version": "1.0"}
    ]
    assert json.loads((tmp_path / "out/rollout/result.json").read_text())["episodes"] == 1
    with pytest.raises(
        CheckpointError, match=r"uses the policy 'my_policy' of my-package 1\.0, which is not installed"
    ):
        load_checkpoint(checkpoint)


@pytest.mark.egl
def test_an_encoder_is_added_as_the_page_says(tmp_path: Path) -> None:
    printed = follow("add_an_encoder.md", with_data(tmp_path))
    assert "'cnn' cannot be __main__:Blurred of the module '__main__': the name exists already" in printed
    checkpoint = tmp_path / "out/my_encoder/checkpoint"
    assert parts_of(checkpoint) == [
        {"kind": "encoders", "name": "my_encoder", "package": "my-encoders", "version": "1.0"}
    ]
    with pytest.raises(CheckpointError, match=r"backbone 'my_encoder' of my-encoders 1\.0, which is not"):
        load_checkpoint(checkpoint)


@pytest.mark.egl
def test_a_sensor_is_added_as_the_page_says(tmp_path: Path) -> None:
    printed = follow("add_a_sensor.md", with_data(tmp_path, lidar=True))
    assert "torch.Size([2, 3, 8, 3]) torch.Size([2, 3])" in printed
    checkpoint = tmp_path / "out/my_sensor/checkpoint"
    assert parts_of(checkpoint) == [
        {"kind": "sensors", "name": "nearest_points", "package": "my-sensors", "version": "1.0"}
    ]
    with pytest.raises(CheckpointError, match=r"sensor encoder 'nearest_points' of my-sensors 1\.0, which is not"):
        load_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def pusht(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page about simulators, followed; what it installed can be imported."""
    pytest.importorskip("gym_pusht")
    folder = tmp_path_factory.mktemp("pusht")
    follow("add_a_simulator.md", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "site"))
        yield folder
    sys.modules.pop("pusht_simulator", None)


def make_pusht(folder: Path, seed: int = 0) -> Any:
    from vla_ros.sim import SimRequest, make_robot

    return make_robot("pusht", SimRequest(load_contract(folder / "pusht.yaml"), seed=seed))


def test_push_t_is_added_as_the_page_says(pusht: Path) -> None:
    result = json.loads((pusht / "out/pusht_random/result.json").read_text())
    assert (result["robot"], result["task"], result["episodes"]) == ("pusht", "push-t", 2)


@pytest.mark.ros
def test_push_t_is_driven_over_topics_recorded_and_converted_by_the_arms_commands(pusht: Path) -> None:
    from vla_ros.datasets import EpisodeDataset

    result = json.loads((pusht / "out/pusht_ros/result.json").read_text())
    assert (result["robot"], result["task"], result["episodes"]) == ("pusht", "push-t", 2)
    assert result["halted_fraction"] < 0.5
    assert len(list((pusht / "data/pusht_bags").glob("*/metadata.yaml"))) == 2
    data = EpisodeDataset(pusht / "data/pusht")
    assert data.n_episodes == 2
    for index in range(2):
        values = data.episode(index).values
        robot = make_pusht(pusht, seed=100_000 + index)
        robot.command(None, 100_000_000)
        robot.step()  # an episode's first tick comes one period after its reset
        np.testing.assert_array_equal(values["observation.images.top"][0], robot._observed["pixels"])
        decide = robot.demonstrator("random")
        np.testing.assert_allclose(values["action"][:5], [decide() for _ in range(5)], rtol=1e-6)


def test_push_ts_messages_decode_to_what_the_environment_observes(pusht: Path) -> None:
    contract, robot = load_contract(pusht / "pusht.yaml"), make_pusht(pusht, seed=5)
    robot.command(np.array([0.3, 0.2]), 100_000_000)
    robot.step()
    image, state = contract.inputs
    decoded = {}
    for spec in (image, state):
        message = deserialize(serialize(robot.message(spec, 7), spec.type), spec.type)
        decoded[spec.key] = decode_input(spec, message)
    observed = robot._environment.get_obs()
    np.testing.assert_array_equal(decoded[image.key], observed["pixels"])
    np.testing.assert_allclose(decoded[state.key], observed["agent_pos"] / 1000.0, rtol=1e-6)


def test_an_equal_seed_gives_an_equal_episode_of_push_t(pusht: Path) -> None:
    spec = load_contract(pusht / "pusht.yaml").inputs[0]

    def episode(robot: Any, seed: int) -> list[bytes]:
        robot.reset(seed)
        decide, seen = robot.demonstrator("random"), []
        for _ in range(5):
            robot.command(decide(), 100_000_000)
            robot.step()
            seen.append(serialize(robot.message(spec, 0), spec.type))
        return seen

    robot = make_pusht(pusht)
    first = episode(robot, 3)
    assert episode(robot, 4) != first
    assert episode(robot, 3) == first


def test_push_t_succeeds_where_the_block_lies_on_its_outline(pusht: Path) -> None:
    robot = make_pusht(pusht)
    x, y, angle = map(float, robot._environment.goal_pose)
    block = robot._environment.block
    block.angle, block.position = angle, (x, y)  # in this order: an angle turns the block about its centre of mass
    robot.command(None, 100_000_000)
    robot.step()
    assert robot.success
    robot.reset(0)
    assert not robot.success


def test_a_policy_drives_push_t_through_the_nodes_runtime(pusht: Path, tmp_path: Path) -> None:
    from vla_ros.policies import build_policy
    from vla_ros.processors import ProcessorOptions, Processors
    from vla_ros.rollouts.in_process import make_driver, run_in_process

    contract = load_contract(pusht / "pusht.yaml")
    inputs = {key: spec for key, spec in contract.features.items() if key != "action"}
    action = contract.features["action"]
    shapes = {key: (3, 1, 1) if spec.kind == "image" else spec.shape for key, spec in contract.features.items()}
    values = {"min": 0.0, "q01": 0.0, "mean": 0.25, "std": 0.1, "q99": 0.5, "max": 0.5}
    statistics = {key: {name: np.full(shape, v) for name, v in values.items()} for key, shape in shapes.items()}
    processors = Processors(inputs, action, ProcessorOptions(), statistics)
    policy = build_policy("bc", {"inputs": processors.policy_inputs, "action": action, "hidden_dims": [8]})
    folder = save_checkpoint(tmp_path / "tiny", policy, processors, contract)
    driver = make_driver("checkpoint", contract, checkpoint=str(folder))
    robot = make_pusht(pusht)
    (trace,) = run_in_process(robot, contract, driver, episodes=1, first_seed=2, time_limit_s=1.0)
    commanded = np.stack([command.action for command in trace.commands])
    assert commanded.shape == (10, 2)
    assert trace.halted_ticks == 0
    assert ((commanded >= 0.0) & (commanded <= 0.512)).all()


def test_what_push_t_lacks_is_refused_by_name(pusht: Path) -> None:
    from vla_ros.sim import SimRequest, make_robot

    contract, robot = load_contract(pusht / "pusht.yaml"), make_pusht(pusht)
    with pytest.raises(ConfigError, match="has no scripted expert"):
        robot.demonstrator("expert")
    with pytest.raises(ConfigError, match="has one task, 'push-t', got 'pull'"):
        make_robot("pusht", SimRequest(contract, "pull"))
    refusal = r"simulator 'push' is not one of metaworld, mobile_base, pusht .*Did you mean 'pusht'\?"
    with pytest.raises(ConfigError, match=refusal):
        make_robot("push", SimRequest(contract))
