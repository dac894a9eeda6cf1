"""Reads a checkpoint folder, strictly: a missing or surplus weight is an error. No training, no robot."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, load_model
from torch import Tensor

from vla_ros.checkpoint.checkpoint import (
    CONFIG,
    CONTRACT,
    FORMAT_VERSION,
    METADATA,
    PROCESSORS,
    REQUIRED,
    STATISTICS,
    WEIGHTS,
    Checkpoint,
)
from vla_ros.contract import RobotContract, Section, load_contract, load_yaml
from vla_ros.data_types import CheckpointError, ConfigError, ContractError
from vla_ros.policies import Policy, build_policy
from vla_ros.processors import Processors


def load_checkpoint(path: str | Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint folder.

    Args:
        path: The folder.
        device: torch device for policy and processors.

    Raises:
        CheckpointError: The folder or one of its files is missing, damaged, or does not fit the others.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint folder.")
    missing = [name for name in REQUIRED if not (path / name).is_file()]
    if missing:
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(missing)}; copy the whole folder again.")
    metadata = _metadata(path / METADATA)
    contract = _contract(path / CONTRACT, metadata)
    processors = _processors(path)
    policy = _policy(path, processors)
    try:
        policy.to(device)
    except (RuntimeError, AssertionError) as reason:
        raise CheckpointError(f"{path}: device '{device}' cannot be used: {_line(reason)}") from reason
    return Checkpoint(path, policy.eval(), processors.to(device), contract, metadata)


def read_inputs(path: str | Path) -> tuple[str, ...]:
    """Return the feature keys that a checkpoint's policy takes, without loading it.

    Raises:
        CheckpointError: There is no such checkpoint, or it is malformed.
    """
    file = Path(path) / PROCESSORS
    return tuple(Section(str(file), "", load_yaml(file, CheckpointError), CheckpointError).section("inputs").content)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:  # JSON and UTF-8 errors both
        raise CheckpointError(f"{path}: not readable as JSON: {_line(reason)}") from reason
    section = Section(str(path), "", metadata, CheckpointError)
    version = section.scalar("format_version", int)
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format_version {version} is not {FORMAT_VERSION}; use a vla_ros that wrote it.")
    section.scalar("contract_hash", str)
    return dict(section.content)


def _contract(path: Path, metadata: dict[str, Any]) -> RobotContract:
    try:
        contract = load_contract(path)
    except ContractError as reason:
        raise CheckpointError(str(reason)) from reason
    if contract.hash != metadata["contract_hash"]:
        raise CheckpointError(
            f"{path}: its hash {contract.hash} is not the {metadata['contract_hash']} of {METADATA}; "
            "the contract was edited after training."
        )
    return contract


def _processors(path: Path) -> Processors:
    content = load_yaml(path / PROCESSORS, CheckpointError)
    return Processors.from_dict(content, _tensors(path / STATISTICS), str(path / PROCESSORS))


def _policy(path: Path, processors: Processors) -> Policy:
    source = str(path / CONFIG)
    section = Section(source, "", load_yaml(path / CONFIG, CheckpointError), CheckpointError)
    name, config = section.scalar("policy", str), section.section("config").content
    section.finish()
    try:
        policy = build_policy(name, config, f"{source}: config")
    except ConfigError as reason:
        raise CheckpointError(str(reason)) from reason
    if policy.config.inputs != processors.policy_inputs or policy.config.action != processors.action:
        raise CheckpointError(
            f"{source}: its features are not those of {PROCESSORS}; the files are of two checkpoints."
        )
    if policy.config.text != processors.text_spec:
        raise CheckpointError(f"{source}: its text is not that of {PROCESSORS}; the files are of two checkpoints.")
    weights = path / WEIGHTS
    try:
        load_model(policy, weights, strict=True)
    except SafetensorError as reason:
        raise CheckpointError(f"{weights}: damaged: {_line(reason)}") from reason
    except RuntimeError as reason:
        raise CheckpointError(f"{weights}: not the weights of this configuration: {_line(reason)}") from reason
    return policy


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as reason:
        raise CheckpointError(f"{path}: damaged: {_line(reason)}") from reason


def _line(reason: BaseException) -> str:
    text = " ".join(str(reason).split())
    return text if len(text) <= 300 else f"{text[:300]} …"
