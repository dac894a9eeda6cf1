"""A stand-in for the policy with a known formula, on a dataset of known numbers: every change is a sum by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from vla_ros.checkpoint import Checkpoint
from vla_ros.cli.main import main
from vla_ros.contract import RobotContract, load_contract
from vla_ros.data_types import CheckpointError, DatasetError
from vla_ros.datasets import DatasetWriter, EpisodeDataset
from vla_ros.evaluation.importance import measure_importance, phase_name, table_rows
from vla_ros.processors import ProcessorOptions, Processors, TextSpec

ROOT = Path(__file__).parents[2]
FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
LENGTHS = (8, 40, 20)  # 0.4, 2 and 1 s
BRIGHTNESS = (10, 30, 70)  # of the front camera
INSTRUCTIONS = ("push", "push", "pull")


def small_contract(folder: Path, robot_type: str = "tiny") -> RobotContract:
    content = yaml.safe_load((ROOT / "config/robots/metaworld_sawyer.yaml").read_text())
    content["robot_type"] = robot_type
    for camera in content["inputs"][:2]:
        camera["image"] = {"height": 4, "width": 4}
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_contract(path)


def state_at(episode: int, tick: int) -> np.ndarray:
    return np.array([100 * episode + tick, 0, 0, 0], np.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> EpisodeDataset:
    folder = tmp_path_factory.mktemp("data")
    contract = small_contract(folder)
    keys = (FRONT, WRIST, STATE, "action")
    features = {key: contract.features[key] for key in keys}
    writer = DatasetWriter(folder / "tiny", features, contract.fps, contract.robot_type, image_storage="png")
    for episode, (length, instruction) in enumerate(zip(LENGTHS, INSTRUCTIONS, strict=True)):
        front = np.full((4, 4, 3), BRIGHTNESS[episode], np.uint8)
        frames = [
            {
                FRONT: front,
                WRIST: np.zeros_like(front),
                STATE: state_at(episode, tick),
                "action": np.zeros(4, np.float32),
            }
            for tick in range(length)
        ]
        writer.add_episode(frames, instruction)
    files = {"meta/contract.yaml": (folder / "contract.yaml").read_text(), "meta/contract_hash.txt": contract.hash}
    writer.finish(files)
    return EpisodeDataset(folder / "tiny")


def make_checkpoint(dataset: EpisodeDataset, tmp_path: Path, contract: RobotContract | None = None) -> Checkpoint:
    """Return a policy that commands the state's first number, the front camera's brightness and 2."""
    contract = contract or dataset.contract()
    inputs = {key: contract.features[key] for key in (FRONT, WRIST, STATE)}
    options = ProcessorOptions(images="identity", vectors="identity", action="identity")
    statistics = {"mean": [0.0] * 4, "std": [2.0, 4.0, 1.0, 0.0], "min": [0.0] * 4, "max": [1.0] * 4}
    processors = Processors(inputs, contract.features["action"], options, {"action": statistics})

    def predict(batch, generator):
        state, brightness = batch[STATE][:, -1, 0], batch[FRONT].float()[:, -1].mean(dim=(1, 2, 3))
        brightness = brightness * (255.0 if brightness.max() <= 1.0 else 1.0)
        first = torch.stack([state, brightness, torch.full_like(state, 2.0), torch.zeros_like(state)], dim=-1)
        return SimpleNamespace(actions=torch.stack([first, torch.full_like(first, 99.0)], dim=1))

    config = SimpleNamespace(n_obs_steps=2, action_horizon=2, optional_inputs=())
    policy = SimpleNamespace(predict_action_chunk=predict, config=config)
    return Checkpoint(tmp_path, policy, processors, contract, {})


def test_an_exchanged_input_changes_the_action_by_its_difference(dataset, tmp_path):
    report = measure_importance(make_checkpoint(dataset, tmp_path), dataset)
    assert report.groups == (FRONT, WRIST, STATE, "all pictures")
    begin = report.phases[0]
    assert (begin.begin_s, begin.end_s, begin.windows) == (0.0, 0.25, 15)
    # episode 0 gets episode 1's, 1 gets 2's, 2 gets 0's, always of the same tick
    assert begin.change[STATE]["dx"] == pytest.approx((100 + 100 + 200) / 3)
    assert begin.change[STATE]["dy"] == begin.change[STATE]["dz"] == 0.0
    assert begin.change[FRONT]["dy"] == pytest.approx((20 + 40 + 60) / 3, abs=0.01)
    assert begin.change["all pictures"] == begin.change[FRONT]
    assert begin.change[WRIST] == dict.fromkeys(("dx", "dy", "dz", "gripper"), 0.0)
    assert begin.error["dz"] == begin.bias["dz"] == pytest.approx(2.0)  # of the step that is due, not of later ones


def test_a_partner_is_an_episode_that_lasts_as_long(dataset, tmp_path):
    report = measure_importance(make_checkpoint(dataset, tmp_path), dataset)
    assert [phase_name(phase) for phase in report.phases] == ["0–0.25 s", "0.25–0.75 s", "0.75–1.5 s"]
    # from 0.75 s on there are episodes 1 (to 2 s) and 2 (to 1 s); beyond 1 s episode 1 is alone and says nothing
    last = report.phases[-1]
    assert last.windows == 2 * 5
    assert last.change[STATE]["dx"] == pytest.approx(100.0)


def test_a_number_that_never_varied_counts_for_nothing(dataset, tmp_path):
    report = measure_importance(make_checkpoint(dataset, tmp_path), dataset)
    assert report.action_std == {"dx": 2.0, "dy": 4.0, "dz": 1.0, "gripper": 0.0}
    assert report.in_deviations({"dx": 1.0, "dy": 1.0, "dz": 0.0, "gripper": 5.0}) == pytest.approx((0.5 + 0.25) / 3)


def test_at_most_so_many_windows_are_looked_at(dataset, tmp_path):
    report = measure_importance(make_checkpoint(dataset, tmp_path), dataset, windows=4)
    assert {phase.windows for phase in report.phases} == {4}


def test_instructions_are_exchanged_where_the_policy_reads_them(dataset, tmp_path):
    checkpoint = make_checkpoint(dataset, tmp_path)
    checkpoint.processors.use_text(TextSpec(kind="characters", length=8))
    report = measure_importance(checkpoint, dataset)
    assert report.groups[-1] == "instruction"
    assert report.phases[0].change["instruction"]["dx"] == 0.0


def test_another_robot_is_refused(dataset, tmp_path):
    other = make_checkpoint(dataset, tmp_path, small_contract(tmp_path, "another"))
    with pytest.raises(CheckpointError, match="robot_type was another, now tiny"):
        measure_importance(other, dataset)


def test_one_episode_is_not_enough(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("vla_ros.evaluation.importance._episodes", lambda *_: ((0,), False))
    with pytest.raises(DatasetError, match="it has only 1"):
        measure_importance(make_checkpoint(dataset, tmp_path), dataset)


def test_the_report_is_a_table_a_file_and_a_picture(dataset, tmp_path):
    report = measure_importance(make_checkpoint(dataset, tmp_path), dataset)
    rows = table_rows(report)
    assert [name for name, _ in rows] == ["time in episode", "0–0.25 s", "0.25–0.75 s", "0.75–1.5 s"]
    assert rows[0][1].split()[:2] == ["error", FRONT]
    report.save(tmp_path / "out")
    written = json.loads((tmp_path / "out/importance.json").read_text())
    assert written["phases"][0]["change"][STATE]["dx"] == pytest.approx(400 / 3, abs=1e-6)
    assert (tmp_path / "out/importance.png").stat().st_size > 5000


def test_a_report_that_cannot_be_written_is_one_sentence(dataset, tmp_path, capsys, monkeypatch):
    checkpoint = make_checkpoint(dataset, tmp_path)
    monkeypatch.setattr("vla_ros.checkpoint.load_checkpoint", lambda _: checkpoint)
    (tmp_path / "file").write_text("")
    arguments = ["--checkpoint", "x", "--dataset", str(dataset.root), "--output", str(tmp_path / "file/out")]
    assert main(["importance", *arguments]) == 2
    assert "the report cannot be written: Not a directory" in capsys.readouterr().err


def test_the_command_measures_the_shipped_checkpoint_only_on_its_robot(dataset, tmp_path, capsys):
    arguments = ["--checkpoint", str(ROOT / "models/metaworld_push_bc"), "--dataset", str(dataset.root)]
    assert main(["importance", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert "does not fit" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
