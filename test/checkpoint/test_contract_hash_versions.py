"""Checkpoints that carry a contract hash of version 1 load, and say so; what does not fit is named by its fields."""

import json
from pathlib import Path

import pytest
import yaml

from vla_ros.checkpoint import load_checkpoint
from vla_ros.checkpoint.checksums import folder_checksums, metadata_text, read_metadata
from vla_ros.contract import load_contract
from vla_ros.data_types import CheckpointError


def written_under_version_1(folder: Path) -> Path:
    """Make a checkpoint what it was before version 2."""
    metadata = read_metadata(folder / "metadata.json")
    metadata["contract_hash"] = load_contract(folder / "contract.yaml").hash_v1
    (folder / "metadata.json").write_text(metadata_text(metadata, folder_checksums(folder)), encoding="utf-8")
    return folder


def test_a_checkpoint_of_version_1_loads_with_a_word_and_fits_its_robot(folder, robot, caplog) -> None:
    loaded = load_checkpoint(written_under_version_1(folder))
    (word,) = caplog.messages
    assert word.startswith(f"{folder}: contract hash {robot.hash_v1} is of version 1, ")
    loaded.check_robot(robot)


def test_a_checkpoint_of_version_1_does_not_fit_a_robot_that_version_1_could_not_tell_apart(
    folder, robot, tmp_path
) -> None:
    content = yaml.safe_load(Path(robot.source).read_text(encoding="utf-8"))
    content["action"]["record"]["alignment"] = {"timeline": "receive"}
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    other = load_contract(tmp_path / "robot.yaml")
    assert other.hash_v1 == robot.hash_v1
    with pytest.raises(CheckpointError, match=r"action record was .*'header'.*, now .*'receive'"):
        load_checkpoint(written_under_version_1(folder)).check_robot(other)


def test_a_checkpoint_of_neither_version_is_refused(folder) -> None:
    metadata = read_metadata(folder / "metadata.json")
    metadata["contract_hash"] = "x" * 100_000
    (folder / "metadata.json").write_text(metadata_text(metadata, folder_checksums(folder)), encoding="utf-8")
    with pytest.raises(CheckpointError, match="the contract was edited after training") as caught:
        load_checkpoint(folder)
    assert len(str(caught.value)) < 1000
    assert json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
