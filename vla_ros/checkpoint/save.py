"""Writes a checkpoint folder, whole or not at all. No training."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file, save_model

import vla_ros
from vla_ros.checkpoint.checkpoint import (
    CONFIG,
    CONTRACT,
    FORMAT_VERSION,
    METADATA,
    MODEL_CARD,
    PROCESSORS,
    STATISTICS,
    WEIGHTS,
)
from vla_ros.checkpoint.checksums import folder_checksums, metadata_text, read_metadata
from vla_ros.checkpoint.model_card import model_card
from vla_ros.contract import RobotContract, contract_text, load_contract
from vla_ros.data_types import CheckpointError
from vla_ros.policies import Policy
from vla_ros.processors import Processors
from vla_ros.registry import foreign_parts
from vla_ros.schema import to_plain


def save_checkpoint(
    path: str | Path,
    policy: Policy,
    processors: Processors,
    contract: RobotContract,
    metadata: Mapping[str, Any] | None = None,
    *,
    extra_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a checkpoint folder, replacing an older one of the same name.

    Args:
        path: The folder.
        policy: Its weights and configuration.
        processors: Those it was trained with.
        contract: Of the robot whose data it was trained on; its file is copied.
        metadata: What training wants remembered: ``dataset``, ``step``, ``epoch``, ``metrics``.
        extra_files: Name → content, e.g. ``recipe.yaml`` and ``loss_curve.png``.

    Returns:
        The folder.

    Raises:
        CheckpointError: The contract's file is gone or changed, or the folder cannot be written.
    """
    path = Path(path)
    text_of_contract = _contract_text(contract)
    parts = foreign_parts(policy.name, policy.config, [("processors", step.name) for step in processors.steps])
    known = {
        "format_version": FORMAT_VERSION,
        "policy": policy.name,
        "robot_type": contract.robot_type,
        "contract_hash": contract.hash,
        "parameters": policy.parameter_counts()["total"],
        "versions": {"vla_ros": vla_ros.__version__, "torch": torch.__version__, "python": platform.python_version()},
        **({"parts": parts} if parts else {}),
        "files": sorted(extra_files or ()),
        **(to_plain(metadata) if metadata else {}),
    }
    with new_folder(path) as new:
        save_model(policy, str(new / WEIGHTS), metadata={"format": "pt"})
        save_file(processors.tensors(), new / STATISTICS)
        _write_yaml(new / CONFIG, {"policy": policy.name, "config": to_plain(policy.config)})
        _write_yaml(new / PROCESSORS, processors.to_dict())
        (new / CONTRACT).write_text(text_of_contract, encoding="utf-8")
        (new / MODEL_CARD).write_text(model_card(policy, processors, contract, known), encoding="utf-8")
        for name, content in (extra_files or {}).items():
            (new / name).write_bytes(content)
        # last: it holds the checksums of all others
        (new / METADATA).write_text(metadata_text(known, folder_checksums(new)), encoding="utf-8")
    return path


def replace_extra_file(path: str | Path, name: str, content: bytes) -> None:
    """Replace one of a checkpoint's extra files, such as its loss curve; readers see the old folder or the new one.

    Raises:
        CheckpointError: There is no such checkpoint, it has no such extra file, or the folder cannot be written.
    """
    path = Path(path)
    metadata = read_metadata(path / METADATA)
    if name not in metadata.get("files", ()):
        raise CheckpointError(f"{path}: the checkpoint has no extra file '{name}' to replace.")
    with new_folder(path) as new:
        for file in path.iterdir():
            if file.is_file() and file.name not in (name, METADATA):
                shutil.copy2(file, new / file.name)
        (new / name).write_bytes(content)
        (new / METADATA).write_text(metadata_text(metadata, folder_checksums(new)), encoding="utf-8")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to be filled, and put it in the place of `path`; on errors the old one stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be written: {reason.strerror}.") from reason
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp and safetensors make theirs private
        for file in temporary.iterdir():
            file.chmod(0o644)
        _swap(temporary, path)
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be written: {reason.strerror}.") from reason
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _contract_text(contract: RobotContract) -> str:
    source = Path(contract.source)
    if not source.is_file():
        raise CheckpointError(
            f"{contract.source or contract.robot_type}: the contract's file is gone; a checkpoint keeps a copy."
        )
    if load_contract(source).hash != contract.hash:
        raise CheckpointError(f"{source}: the contract was changed since it was read; start again.")
    return contract_text(contract)


def _write_yaml(path: Path, content: Any) -> None:
    # default_flow_style=None: lists of numbers on one line
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    path.write_text(text, encoding="utf-8")


def _swap(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`; a folder with files cannot be renamed over, so the old one steps aside."""
    if not path.exists():
        new.rename(path)
        return
    old = new.with_name(f"{new.name}.old")
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to be written, and put it in the place of `path` once it is on the disk: whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    yield temporary
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def tidy(path: Path) -> None:
    """Remove what a process that was killed while it saved a checkpoint left beside it; keep the checkpoint itself.

    Args:
        path: The checkpoint's folder. Killed between two renames, the older one still waits under another name.
    """
    leftovers = sorted(path.parent.glob(f".{path.name}.*"))
    for old in leftovers:
        if old.name.endswith(".old") and not path.exists():
            old.rename(path)
        else:
            shutil.rmtree(old, ignore_errors=True)
