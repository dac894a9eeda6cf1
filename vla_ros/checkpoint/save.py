"""Writes a checkpoint folder, whole or not at all. No training."""

import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
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
from vla_ros.checkpoint.model_card import model_card
from vla_ros.contract import RobotContract, contract_text, load_contract
from vla_ros.contract.options import to_plain
from vla_ros.data_types import CheckpointError
from vla_ros.policies import Policy
from vla_ros.processors import Processors


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
    known = {
        "format_version": FORMAT_VERSION,
        "policy": policy.name,
        "robot_type": contract.robot_type,
        "contract_hash": contract.hash,
        "parameters": policy.parameter_counts()["total"],
        "versions": {"vla_ros": vla_ros.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "files": sorted(extra_files or ()),
        **(to_plain(metadata) if metadata else {}),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be written: {reason.strerror}.") from reason
    try:
        save_model(policy, str(temporary / WEIGHTS), metadata={"format": "pt"})
        save_file(processors.tensors(), temporary / STATISTICS)
        _write_yaml(temporary / CONFIG, {"policy": policy.name, "config": to_plain(policy.config)})
        _write_yaml(temporary / PROCESSORS, processors.to_dict())
        (temporary / CONTRACT).write_text(text_of_contract, encoding="utf-8")
        (temporary / METADATA).write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        (temporary / MODEL_CARD).write_text(model_card(policy, processors, contract, known), encoding="utf-8")
        for name, content in (extra_files or {}).items():
            (temporary / name).write_bytes(content)
        temporary.chmod(0o755)  # mkdtemp and safetensors make theirs private
        for file in temporary.iterdir():
            file.chmod(0o644)
        _swap(temporary, path)
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be written: {reason.strerror}.") from reason
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


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
