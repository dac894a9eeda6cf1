"""``vla_ros contract``: check and describe a robot's contract."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command
from vla_ros.cli.console import print_table, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers
    from vla_ros.contract import InputSpec, RobotContract


def add_parser(commands: "Subparsers") -> None:
    """Add the command and its two actions."""
    group = commands.add_parser("contract", help="check or describe a robot's contract")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = add_command(actions, "check", run_check, "read a contract and say what is wrong with it")
    check.add_argument("file", metavar="FILE", help="contract, YAML")
    describe = add_command(
        actions, "describe", run_describe, "print what a contract means: features, rates, topics, limits"
    )
    describe.add_argument("file", metavar="FILE", help="contract, YAML")
    describe.add_argument("--json", action="store_true", help="print it whole, as JSON")


def run_check(arguments: argparse.Namespace) -> int:
    """Parse the contract; errors are raised."""
    contract = _load(arguments.file)
    features = len(contract.features)
    say(f"{arguments.file}: a valid contract of {contract.robot_type}, {features} features, hash {contract.hash}")
    return 0


def run_describe(arguments: argparse.Namespace) -> int:
    """Print the contract."""
    contract = _load(arguments.file)
    if arguments.json:
        say(json.dumps({**asdict(contract), "hash": contract.hash}, indent=2))
        return 0
    rows = [
        ("rates", f"{contract.fps} observations and {contract.control_rate_hz} commands per second"),
        ("base frame", contract.base_frame),
        ("hash", contract.hash),
    ]
    print_table(f"{contract.robot_type}  ({arguments.file})", rows)
    print_table("inputs", [(spec.key, _describe_input(spec)) for spec in contract.inputs])
    print_table("action", _describe_action(contract))
    return 0


def _load(file: str) -> "RobotContract":
    from vla_ros.contract import load_contract

    return load_contract(Path(file))


def _describe_input(spec: "InputSpec") -> str:
    shape = "×".join(map(str, spec.shape))
    need = "" if spec.required else ", optional"
    return f"{spec.topic} ({spec.type}) → {shape}{need}, at most {spec.max_age_s:g} s old, else {spec.on_missing}"


def _describe_action(contract: "RobotContract") -> list[tuple[str, str]]:
    action = contract.action
    numbers = ", ".join(
        name if unit == "1" else f"{name} [{unit}]" for name, unit in zip(action.names, action.units, strict=True)
    )
    rows = [("numbers", numbers), ("representation", f"{action.representation} in {action.frame}")]
    rows += [("sink", f"{sink.topic} ({sink.type})") for sink in action.sinks]
    return [*rows, *(("recorded from", f"{record.topic} ({record.type})") for record in action.records)]
