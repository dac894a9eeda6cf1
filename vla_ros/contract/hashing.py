"""What of a contract gives the numbers their meaning, and a hash over it. Knows the declarations, no single field.

A field counts unless it is declared ``unhashed`` with the reason. One at the default of its dataclass is left out, so
that a field that is added later, with what was so before as its default, changes no hash.
"""

import hashlib
import json
import logging
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from vla_ros.schema import fields_of

if TYPE_CHECKING:
    from vla_ros.contract.schema import RobotContract

HASH_VERSION = 2
"""1 left out the record, the inputs' frames and what was added since."""

_LOG = logging.getLogger(__name__)


def contract_hash(contract: "RobotContract") -> str:
    """Return sixteen hexadecimal digits that two contracts share when their numbers mean the same.

    Keys, types, selections, forms, frames, alignment, rates, the action's representation and how it is recorded count.
    Topics, QoS, ages, limits and sinks do not: remapping a topic or tightening a limit changes neither what a policy
    was trained on nor what its numbers mean. The goal counts only for policies that see its picture.
    """
    return _digits({"version": HASH_VERSION, "contract": meaning(contract)})


def meaning(value: Any, *, defaults: bool = False) -> Any:
    """Return, as plain data, the fields of a contract or a part of it that count; without those at their default."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {}
        for entry in fields_of(type(value)):
            held = getattr(value, entry.name)
            if not entry.about.unhashed and (defaults or not entry.has_default or held != entry.default):
                found[entry.name] = meaning(held, defaults=defaults)
        return found
    return [meaning(item, defaults=defaults) for item in value] if isinstance(value, tuple) else value


def is_hash_of(recorded: str, contract: "RobotContract", place: object) -> bool:
    """Whether a hash that was written somewhere is the contract's; one of an older version is said to be so.

    Args:
        recorded: The hash.
        contract: The contract that lies beside it.
        place: Where it was written, for the word about its version.
    """
    if recorded == contract.hash:
        return True
    if recorded != contract.hash_v1:
        return False
    _LOG.warning(
        "%s: contract hash %s is of version 1, which left fields out; by its contract's fields it is %s of version %d.",
        place,
        recorded,
        contract.hash,
        HASH_VERSION,
    )
    return True


def contract_differences(trained: "RobotContract", robot: "RobotContract") -> list[str]:
    """Return what differs between two contracts among the fields that count in their hash, a phrase each."""
    was, now = (meaning(contract, defaults=True) for contract in (trained, robot))
    found: list[str] = []
    simple = [name for name in was if name not in ("inputs", "action")]
    found += _differing("", {name: was[name] for name in simple}, now)
    old_keys, new_keys = ([spec["key"] for spec in side["inputs"]] for side in (was, now))
    if old_keys != new_keys:  # order and selection of streams count as well as what each one is
        found.append(f"inputs were {old_keys}, now {new_keys}")
    else:
        for old, new in zip(was["inputs"], now["inputs"], strict=True):
            found += _differing(f"{old['key']} ", old, new)
    return found + _differing("action ", was["action"], now["action"])


def _differing(of: str, was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [f"{of}{name} was {was[name]}, now {now[name]}" for name in was if was[name] != now[name]]


def contract_hash_v1(contract: "RobotContract") -> str:
    """Return the hash as version 1 computed it; checkpoints, datasets and bags written then carry it."""
    action = contract.action
    selected = ("key", "type", "names", "fields", "image", "points", "window", "alignment")
    return _digits(
        {
            "robot_type": contract.robot_type,
            "fps": contract.fps,
            "inputs": [[_whole(getattr(spec, name)) for name in selected] for spec in contract.inputs],
            "action": [
                _whole(getattr(action, name))
                for name in ("key", "names", "units", "representation", "rotation", "frame", "gripper")
            ],
        }
    )


def _whole(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _digits(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
