"""Reads a checkpoint folder, strictly: a missing or surplus weight is an error. No training, no robot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from vla_ros.checkpoint.checksums import check_files, read_metadata
from vla_ros.checkpoint.tensor_files import cut, read_tensors
from vla_ros.checkpoint.weights import load_weights
from vla_ros.contract import RobotContract, is_hash_of, load_contract
from vla_ros.data_types import CheckpointError, ConfigError, ContractError
from vla_ros.data_types.foreign_text import plain
from vla_ros.policies import Policy, current_policy, policy_class, policy_config
from vla_ros.processors import Processors
from vla_ros.registry import check_provided
from vla_ros.schema import Section, load_yaml

_PROBLEMS = 5
"""Parts named in one message."""


def load_checkpoint(path: str | Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint folder.

    Args:
        path: The folder.
        device: torch device for policy and processors.

    Raises:
        CheckpointError: The folder or one of its files is missing, damaged, or does not fit the others.
    """
    path = Path(path)
    _check_whole(path)
    check_files(path, _metadata(path))
    return load_unverified(path, device)


def load_unverified(path: Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint folder as `load_checkpoint` does, but whatever its checksums are."""
    _check_whole(path)
    metadata = _metadata(path)
    contract = _contract(path / CONTRACT, metadata)
    processors = _processors(path)
    policy = _policy(path, processors)
    try:
        policy.to(device)
    except (RuntimeError, AssertionError) as reason:
        raise CheckpointError(f"{path}: device '{device}' cannot be used: {cut(reason)}.") from reason
    return Checkpoint(path, policy.eval(), processors.to(device), contract, metadata)


def read_inputs(path: str | Path) -> tuple[str, ...]:
    """Return the feature keys that a checkpoint's policy takes, without loading it.

    Raises:
        CheckpointError: There is no such checkpoint, or it is malformed.
    """
    file = Path(path) / PROCESSORS
    return tuple(Section(str(file), "", load_yaml(file, CheckpointError), CheckpointError).section("inputs").content)


def _check_whole(path: Path) -> None:
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint folder.")
    missing = [name for name in REQUIRED if not (path / name).is_file()]
    if missing:
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(missing)}; copy the whole folder again.")


def _metadata(folder: Path) -> dict[str, Any]:
    file = folder / METADATA
    metadata = read_metadata(file)
    section = Section(str(file), "", metadata, CheckpointError)
    version = section.scalar("format_version", int)
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{file}: format_version {version} is not {FORMAT_VERSION}; use a vla_ros that wrote it.")
    section.scalar("contract_hash", str)
    _check_parts(folder, metadata.get("parts", []))
    return metadata


def _check_parts(folder: Path, parts: Any) -> None:
    """Refuse a checkpoint whose parts come from packages that are not here."""
    names = {"kind", "name", "package", "version"}
    is_list = isinstance(parts, list) and all(isinstance(part, dict) and set(part) == names for part in parts)
    if not is_list or not all(isinstance(text, str) for part in parts for text in part.values()):
        raise CheckpointError(
            f"{folder / METADATA}: parts must be a list of kind, name, package and version; the checkpoint is damaged."
        )
    problems = check_provided(parts)
    if problems:
        more = f"; and {len(problems) - _PROBLEMS} more" if len(problems) > _PROBLEMS else ""
        raise CheckpointError(f"{folder}: {'; '.join(problems[:_PROBLEMS])}{more}.")


def _contract(path: Path, metadata: Mapping[str, Any]) -> RobotContract:
    try:
        contract = load_contract(path)
    except ContractError as reason:
        raise CheckpointError(str(reason)) from reason
    if not is_hash_of(metadata["contract_hash"], contract, path.parent):
        raise CheckpointError(
            f"{path}: its hash {contract.hash} is not the {plain(metadata['contract_hash'])} of {METADATA}; "
            "the contract was edited after training."
        )
    return contract


def _processors(path: Path) -> Processors:
    content, numbers = load_yaml(path / PROCESSORS, CheckpointError), path / STATISTICS
    return Processors.from_dict(content, read_tensors(numbers), str(path / PROCESSORS), str(numbers))


def _policy(path: Path, processors: Processors) -> Policy:
    source = str(path / CONFIG)
    section = Section(source, "", load_yaml(path / CONFIG, CheckpointError), CheckpointError)
    name, options = section.scalar("policy", str), section.section("config").content
    section.finish()
    try:
        name, options = current_policy(name, options, f"{source}: config")
        kind, config = policy_class(name), policy_config(name, options, f"{source}: config")
    except ConfigError as reason:
        raise CheckpointError(str(reason)) from reason
    if config.inputs != processors.policy_inputs or config.action != processors.policy_action:
        raise CheckpointError(
            f"{source}: its features are not those of {PROCESSORS}; the files are of two checkpoints."
        )
    if config.text != processors.text_spec:
        raise CheckpointError(f"{source}: its text is not that of {PROCESSORS}; the files are of two checkpoints.")
    return load_weights(config, kind, source, path / WEIGHTS)
