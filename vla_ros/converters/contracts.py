"""Which contract bags and datasets were made under."""

import json
from collections.abc import Sequence
from pathlib import Path

from vla_ros.contract import RobotContract, contract_text, is_hash_of, load_contract
from vla_ros.converters.report_files import REPORT_PATH
from vla_ros.data_types import DatasetError
from vla_ros.datasets.layout import CONTRACT_HASH_PATH, CONTRACT_PATH


def own_contract(bags: Sequence[Path]) -> RobotContract:
    """Return the contract that bags were recorded under, as it lies beside each of them.

    Raises:
        DatasetError: None of them has one, or they differ.
        ContractError: One is malformed.
    """
    found: dict[str, RobotContract] = {}
    for bag in bags:
        path = (bag if bag.is_dir() else bag.parent) / "contract.yaml"
        if path.is_file():
            contract = load_contract(path)
            found.setdefault(contract.hash, contract)
    if not found:
        raise DatasetError(f"{bags[0]}: no contract.yaml lies beside its messages; give the robot's with --contract.")
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise DatasetError(
            f"{second.source}: differs from {first.source}; give the one to convert under with --contract, or convert "
            "the bags of each by themselves."
        )
    return next(iter(found.values()))


def check_appended(root: Path, contract: RobotContract) -> None:
    """Refuse to add to a dataset of another contract: equal shapes do not make equal meanings."""
    path = root / CONTRACT_HASH_PATH
    held = path.read_text(encoding="utf-8").strip() if path.is_file() else "no contract"
    copy = root / CONTRACT_PATH
    same = held == contract.hash or (copy.is_file() and load_contract(copy).hash == contract.hash)
    if root.exists() and not (same and is_hash_of(held, contract, root)):
        raise DatasetError(f"{root}: cannot append, it was made under {held}, the given contract is {contract.hash}.")


def served_before(root: Path) -> dict[str, str]:
    """Return which task each instruction of an existing dataset stands for, as far as its report says."""
    try:
        content = json.loads((root / REPORT_PATH).read_text(encoding="utf-8"))
        return {str(text): str(name) for text, name in content.get("tasks", {}).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def kept_contract(contract: RobotContract, bags: Sequence[Path]) -> str:
    """Text of a file that holds this very contract: its source, or a bag's copy of it.

    Raises:
        DatasetError: None of them is there any more.
    """
    for path in [Path(contract.source), *(bag / "contract.yaml" for bag in bags)]:
        if path.is_file() and (held := load_contract(path)).hash == contract.hash:
            return contract_text(held)
    raise DatasetError(
        f"{contract.source or contract.robot_type}: no file holds contract {contract.hash}; "
        "the dataset keeps a copy of it, so its file must still be there."
    )
