import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vla_ros.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.checkpoint.checksums import folder_checksums, metadata_text, read_metadata
from vla_ros.contract import load_contract
from vla_ros.data_types import CheckpointError
from vla_ros.policies import build_policy
from vla_ros.processors import ProcessorOptions, Processors

ROBOT = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
REQUIRED = [
    "model.safetensors",
    "config.yaml",
    "processors.yaml",
    "processors.safetensors",
    "contract.yaml",
    "metadata.json",
]
STATE = "observation.state"


@pytest.fixture
def contract():
    return load_contract(ROBOT)


def parts(contract, **options):
    features = contract.features
    numbers = {name: np.linspace(0.1, 0.4, 4) for name in ("mean", "std")}
    statistics = {STATE: numbers, "action": {"min": np.full(4, -0.01), "max": np.full(4, 0.01)}}
    processors = Processors({STATE: features[STATE]}, features["action"], ProcessorOptions(), statistics)
    config = {"inputs": processors.policy_inputs, "action": processors.action, "hidden_dims": [8], **options}
    return build_policy("bc", config), processors


@pytest.fixture
def folder(contract, tmp_path):
    policy, processors = parts(contract, action_horizon=4)
    metadata = {"step": 7, "metrics": {"validation_loss": 0.25}}
    return save_checkpoint(tmp_path / "made", policy, processors, contract, metadata, extra_files={"note.txt": b"x"})


def observation(size: int = 3) -> dict:
    return {STATE: np.random.default_rng(0).normal(size=(size, 1, 4)).astype(np.float32), "task": ["push"] * size}


def test_loaded_checkpoint_acts_bit_for_bit_as_the_saved_one(contract, tmp_path):
    policy, processors = parts(contract, action_horizon=4)
    loaded = load_checkpoint(save_checkpoint(tmp_path / "c", policy, processors, contract))
    assert not loaded.policy.training
    policy.eval()
    expected = processors.actions(policy.predict_action_chunk(processors.observation(observation())).actions)
    got = loaded.processors.actions(
        loaded.policy.predict_action_chunk(loaded.processors.observation(observation())).actions
    )
    assert torch.equal(got, expected)
    assert loaded.policy.config == policy.config
    assert loaded.contract == contract


def test_folder_holds_what_a_person_and_a_machine_need(folder, contract):
    names = {path.name for path in folder.iterdir()}
    assert names == {*REQUIRED, "README.md", "note.txt"}
    assert (folder / "contract.yaml").read_text() == ROBOT.read_text()
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["contract_hash"] == contract.hash
    assert metadata["step"] == 7
    assert set(metadata["versions"]) == {"vla_ros", "torch", "python"}
    card = (folder / "README.md").read_text()
    for fact in ("metaworld_sawyer", contract.hash, "`observation.state`", "end_effector_x", "validation_loss 0.25"):
        assert fact in card


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside_it(folder, contract):
    policy, processors = parts(contract)
    save_checkpoint(folder, policy, processors, contract)
    assert load_checkpoint(folder).policy.config.action_horizon == 1
    assert not (folder / "note.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_failed_save_leaves_the_old_checkpoint_whole(folder, contract):
    policy, processors = parts(contract)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(folder, policy, processors, contract, extra_files={"no/such/folder": b""})
    assert load_checkpoint(folder).policy.config.action_horizon == 4
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        load_checkpoint(tmp_path / "none")


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"lacks {re.escape(name)}; copy the whole folder"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("damage", ["truncated", "rubbish", "empty"])
def test_damaged_file_is_named_in_one_sentence(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "rubbish": b"\x00\xff: [", "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=re.escape(name)) as raised:
        load_checkpoint(folder)
    assert "\n" not in str(raised.value)


def edit_yaml(path: Path, change) -> None:
    """Edit a file of a checkpoint on purpose: its checksums are right again."""
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    metadata = path.parent / "metadata.json"
    metadata.write_text(metadata_text(read_metadata(metadata), folder_checksums(path.parent)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(policy="bcc"), "policy 'bcc' is not one of"),
        (lambda c: c["config"].update(hidden_dims=[9]), "model.safetensors: not the weights of this configuration"),
        (lambda c: c["config"].update(hidden_dims=[8, 8]), "model.safetensors: not the weights of this configuration"),
        (lambda c: c["config"].update(dropot=1), "dropot is not a field here.*Did you mean 'dropout'"),
        (lambda c: c["config"]["inputs"][STATE].update(shape=[3]), "the files are of two checkpoints"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(folder, change, sentence):
    edit_yaml(folder / "config.yaml", change)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder)


def test_contract_edited_after_training_is_refused(folder):
    edit_yaml(folder / "contract.yaml", lambda c: c.update(fps=10))
    with pytest.raises(CheckpointError, match=r"contract.yaml: its hash .* the contract was edited after training"):
        load_checkpoint(folder)


def test_unusable_device_is_one_sentence(folder):
    with pytest.raises(CheckpointError, match="device 'nonsense' cannot be used"):
        load_checkpoint(folder, device="nonsense")


def test_robot_of_the_training_fits(folder, contract):
    load_checkpoint(folder).check_robot(contract)


def test_limits_and_topics_of_the_robot_may_differ(folder, contract):
    inputs = tuple(replace(spec, topic=f"/other{spec.topic}", max_age_s=9.0) for spec in contract.inputs)
    load_checkpoint(folder).check_robot(replace(contract, inputs=inputs))


def robot(contract, change):
    content = yaml.safe_load(ROBOT.read_text())
    change(content)
    path = Path(contract)
    path.write_text(yaml.safe_dump(content))
    return load_contract(path)


def _drop_state(content):
    content["inputs"] = [spec for spec in content["inputs"] if spec["key"] != STATE]
    del content["action"]["limits"]["workspace"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_drop_state, r"the robot has no 'observation.state'"),
        (lambda c: c["inputs"].pop(3), r"'observation.state' was vector \[4\].*, the robot's is vector \[3\]"),
        (lambda c: c["inputs"][3].update(joints=["grip"]), r"gripper_opening\), the robot's is .*grip\)"),
        (lambda c: c.update(fps=10), r"contract hash \w+ is not the robot's \w+: fps was 20, now 10"),
        (lambda c: c.update(robot_type="arm"), "robot_type was metaworld_sawyer, now arm"),
        (lambda c: c["action"].update(units=["mm", "mm", "mm", "1"]), "action units was .*'m', 'm'.* now .*'mm'"),
        (lambda c: c["action"].update(representation="twist"), "action representation was displacement, now twist"),
        (lambda c: c["inputs"][0].update(image={"height": 96, "width": 96}), "observation.images.front image was"),
        (lambda c: c["inputs"].pop(6), "inputs were"),
    ],
)
def test_robot_that_differs_is_refused_with_the_difference(folder, tmp_path, change, sentence):
    other = robot(tmp_path / "other.yaml", change)
    with pytest.raises(CheckpointError, match=sentence) as raised:
        load_checkpoint(folder).check_robot(other)
    assert "does not fit" in str(raised.value)
    assert "other.yaml" in str(raised.value)


def test_contract_whose_file_is_gone_cannot_be_saved(contract, tmp_path):
    policy, processors = parts(contract)
    with pytest.raises(CheckpointError, match="the contract's file is gone"):
        save_checkpoint(tmp_path / "c", policy, processors, replace(contract, source=str(tmp_path / "none.yaml")))
