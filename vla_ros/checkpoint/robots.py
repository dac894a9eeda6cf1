"""A checkpoint of a policy that was trained on several robots: it is one robot's, and can be made another's.

What belongs to the other robots lies beside it, under names of its own: contract, normalisation and its numbers.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save

from vla_ros.checkpoint.checkpoint import CONTRACT, METADATA, MODEL_CARD, PROCESSORS, STATISTICS
from vla_ros.checkpoint.checksums import folder_checksums, metadata_text
from vla_ros.checkpoint.load import load_checkpoint
from vla_ros.checkpoint.model_card import model_card
from vla_ros.checkpoint.save import new_folder
from vla_ros.contract import RobotContract, contract_text
from vla_ros.data_types import CheckpointError, nearest_name
from vla_ros.processors import Processors

_OWN = (CONTRACT, PROCESSORS, STATISTICS)


def robot_files(name: str, processors: Processors, contract: RobotContract) -> dict[str, bytes]:
    """Return the files of one robot, file name → content."""
    text = yaml.safe_dump(processors.to_dict(), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    contents = (contract_text(contract).encode(), text.encode(), save(processors.tensors()))
    return {_place(name, file): content for file, content in zip(_OWN, contents, strict=True)}


def select_robot(path: str | Path, name: str, output: str | Path) -> Path:
    """Write a checkpoint for another of the robots that a policy was trained on; the weights stay.

    Args:
        path: A checkpoint of a policy of several robots.
        name: Which one; a name of its recipe's mixture.
        output: Folder to write; must not exist.

    Returns:
        The folder.

    Raises:
        CheckpointError: The checkpoint is malformed or has no such robot, or the folder is taken.
    """
    path, output = Path(path), Path(output)
    metadata = load_checkpoint(path).metadata
    known = _robots(path, metadata)
    present = str(metadata["robot"])
    if name not in known:
        raise CheckpointError(
            f"{path}: has no robot '{name}'; it was trained on {', '.join(known)}.{nearest_name(name, known)}"
        )
    if output.exists():
        raise CheckpointError(f"{output}: exists already; choose another folder.")
    with new_folder(output) as new:
        for file in path.iterdir():
            if file.is_file() and file.name != METADATA:
                shutil.copy2(file, new / file.name)
        if name != present:
            for file_name in _OWN:
                (new / file_name).rename(new / _place(present, file_name))
                (new / _place(name, file_name)).rename(new / file_name)
        of_robot = metadata["robots"][name]
        own = {key: of_robot[key] for key in ("contract_hash", "dataset", "action_error")}
        _describe(new, {**metadata, **own, "robot": name})
    load_checkpoint(output)
    return output


def _describe(folder: Path, metadata: dict[str, Any]) -> None:
    extra = [file.name for file in folder.iterdir() if file.name.startswith(_PREFIX)]
    others = [file for file in metadata.get("files", ()) if not file.startswith(_PREFIX)]
    metadata["files"] = sorted([*extra, *others])
    (folder / METADATA).write_text(metadata_text(metadata, folder_checksums(folder)), encoding="utf-8")
    checkpoint = load_checkpoint(folder)
    metadata["robot_type"] = checkpoint.contract.robot_type
    card = model_card(checkpoint.policy, checkpoint.processors, checkpoint.contract, metadata)
    (folder / MODEL_CARD).write_text(card, encoding="utf-8")
    (folder / METADATA).write_text(metadata_text(metadata, folder_checksums(folder)), encoding="utf-8")


def _robots(path: Path, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the robots that the policy was trained on."""
    robots = metadata.get("robots")
    if not isinstance(robots, dict) or metadata.get("robot") not in robots:
        raise CheckpointError(f"{path}: was trained on one robot only; there is no other to choose.")
    needed = {"contract_hash", "dataset", "action_error"}
    for name, entry in robots.items():
        files = [_place(name, file) for file in _OWN] if name != metadata["robot"] else []
        if (
            not isinstance(entry, dict)
            or not needed <= set(entry)
            or not all((path / file).is_file() for file in files)
        ):
            raise CheckpointError(f"{path}: lacks what belongs to robot '{name}'; copy the whole folder again.")
    return tuple(robots)


def _place(robot: str, file: str) -> str:
    return f"{_PREFIX}{robot}.{file}"


_PREFIX = "robot."
