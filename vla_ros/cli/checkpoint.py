"""``vla_ros checkpoint``: what a checkpoint folder holds, read as strictly as the policy node reads it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command
from vla_ros.cli.console import print_table, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers

_SHOWN_ABOVE = frozenset(
    {"format_version", "policy", "robot_type", "contract_hash", "parameters", "checksums", "metadata_checksum"}
)


def add_parser(commands: "Subparsers") -> None:
    """Add the command and its action."""
    group = commands.add_parser("checkpoint", help="describe a checkpoint, check it against a robot, seal it")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    describe = add_command(actions, "describe", run_describe, "load a checkpoint and print what it is")
    describe.add_argument("folder", metavar="DIR", help="checkpoint folder")
    describe.add_argument("--contract", metavar="FILE", help="also check that it fits this robot")
    describe.add_argument("--json", action="store_true", help="print JSON")
    seal = add_command(actions, "seal", run_seal, "write its checksums anew, after a file of it was changed on purpose")
    seal.add_argument("folder", metavar="DIR", help="checkpoint folder")
    select = add_command(
        actions, "select", run_select, "make a checkpoint of a policy of several robots another robot's"
    )
    select.add_argument("folder", metavar="DIR", help="checkpoint folder")
    select.add_argument("--robot", required=True, metavar="NAME", help="name of its dataset in the recipe")
    select.add_argument("--output", required=True, metavar="DIR", help="folder to write; must not exist")


def run_describe(arguments: argparse.Namespace) -> int:
    """Load it strictly and print it; whatever does not fit is raised."""
    from vla_ros.checkpoint import load_checkpoint
    from vla_ros.contract import load_contract

    checkpoint = load_checkpoint(Path(arguments.folder))
    if arguments.contract is not None:
        checkpoint.check_robot(load_contract(Path(arguments.contract)))
    policy, config = checkpoint.policy, checkpoint.policy.config
    if arguments.json:
        described = {"policy": policy.name, "parameters": policy.parameter_counts(), "config": config.to_dict()}
        say(json.dumps({**described, "metadata": dict(checkpoint.metadata)}, indent=2, default=str))
        return 0
    inputs = [f"{key} {'×'.join(map(str, spec.shape))}" for key, spec in config.inputs.items()]
    rows = [
        ("policy", f"{policy.name}, {policy.parameter_counts()['total']:,} parameters"),
        ("robot", f"{checkpoint.contract.robot_type}, contract {checkpoint.contract.hash}"),
        ("sees", f"{', '.join(inputs)}; the last {config.n_obs_steps} frame(s)"),
        ("predicts", f"{config.action_horizon} steps of {', '.join(config.action.names)}"),
        ("processors", "; ".join(f"{step.name} ({step.summary()})" for step in checkpoint.processors.steps)),
    ]
    rows += [(str(name), _short(value)) for name, value in checkpoint.metadata.items() if name not in _SHOWN_ABOVE]
    print_table(str(checkpoint.path), rows)
    return 0


def run_select(arguments: argparse.Namespace) -> int:
    """Write the checkpoint of the same weights for another robot."""
    from vla_ros.checkpoint import select_robot

    folder = select_robot(Path(arguments.folder), arguments.robot, Path(arguments.output))
    say(f"{folder}: a checkpoint for {arguments.robot}")
    return 0


def run_seal(arguments: argparse.Namespace) -> int:
    """Write the checksums of a checkpoint that loads, and print which files are other than before."""
    from vla_ros.checkpoint import seal_checkpoint

    changed = ", ".join(seal_checkpoint(Path(arguments.folder)))
    say(f"{arguments.folder}: sealed; other files than before: {_short(changed or 'none')}")
    return 0


def _short(value: object) -> str:
    is_plain = isinstance(value, str) and value.isprintable()
    text = str(value) if is_plain else json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:200]} …"
