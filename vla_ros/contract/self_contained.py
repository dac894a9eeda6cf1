"""The text of a contract that needs no other file: what a checkpoint, a bag and a dataset keep.

A contract may name files that hold its joints' limits. In a copy of it elsewhere those names would lead nowhere, so
the numbers take their place.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vla_ros.contract.joint_limits import to_mapping
from vla_ros.contract.parse import parse_contract
from vla_ros.contract.schema import RobotContract
from vla_ros.data_types import ContractError
from vla_ros.schema import parse_yaml


def contract_text(contract: RobotContract) -> str:
    """Return the text of the contract's file with the limits that it takes from other files written into it.

    A contract that names no other file is returned as its file has it, byte for byte. Comments stay where the YAML can
    be changed in place; a file that builds its limits from anchors is written anew without them.

    Raises:
        ContractError: The file is gone, or holds another contract than the one that was read from it.
    """
    source = Path(contract.source)
    if not source.is_file():
        raise ContractError(
            f"{contract.source or contract.robot_type}: the contract's file is gone; a copy of it was wanted."
        )
    text = source.read_text(encoding="utf-8")
    content = parse_yaml(text, contract.source, ContractError)
    held = parse_contract(content, contract.source)
    if held.hash != contract.hash:
        raise ContractError(f"{source}: the contract was changed since it was read; start again.")
    limits = content["action"].get("limits") or {}
    files = [field for field in ("joint_limits", "urdf") if isinstance(limits.get(field), str)]
    if not files:
        return text
    joint_limits = contract.action.limits.joint_limits  # those in force, should a file have changed since
    wanted = replace(held, action=replace(held.action, limits=replace(held.action.limits, joint_limits=joint_limits)))
    numbers = to_mapping(joint_limits)
    edited = _edited(text, numbers, files)
    if _holds(edited, wanted):
        return edited
    for field in files:
        del limits[field]
    limits["joint_limits"] = numbers
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _holds(text: str, contract: RobotContract) -> bool:
    """Whether a text is this contract without its files."""
    try:
        return parse_contract(parse_yaml(text, "copy", ContractError), "copy") == contract
    except ContractError:
        return False


def _edited(text: str, numbers: dict[str, dict[str, float]], files: list[str]) -> str:
    """Put the numbers in the place of the first file's name, and nothing in the place of another's."""
    places = dict(_limit_nodes(yaml.compose(text, yaml.SafeLoader)))
    if not set(files) <= places.keys():
        return ""
    flow = yaml.safe_dump(numbers, default_flow_style=True, width=10**6, allow_unicode=True).strip()
    changes: list[tuple[int, int, str]] = []
    for index, field in enumerate(files):
        key, value = places[field]
        changes.append((value.start_mark.index, value.end_mark.index, "null" if index else flow))
        if not index:
            changes.append((key.start_mark.index, key.end_mark.index, "joint_limits"))
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _limit_nodes(node: Any) -> Iterator[tuple[str, tuple[yaml.Node, yaml.Node]]]:
    """Yield name, key and value of the fields that stand in ``action.limits`` itself."""
    for name in ("action", "limits"):
        node = next((value for key, value in node.value if key.value == name), None)
        if node is None:
            return
    for key, value in node.value:
        yield str(key.value), (key, value)
