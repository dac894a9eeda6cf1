"""``vla_ros parts``: what configurations may name, and whose it is."""

import argparse
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command
from vla_ros.cli.console import print_table, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers
    from vla_ros.registry import Entry, Registry


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(commands, "parts", run, "list policies, encoders, simulators and other parts by package")
    parser.add_argument("kind", nargs="?", default="", help="one kind, such as encoders; all of them if left out")
    parser.add_argument("--check", action="store_true", help="import each, and say which cannot be")


def run(arguments: argparse.Namespace) -> int:
    """List; return 1 where something does not import."""
    from vla_ros.contract.types import message_types
    from vla_ros.registry import KINDS, broken_packages, registry_of

    message_types()  # makes those of this package known

    kinds = [registry_of(arguments.kind)] if arguments.kind else list(KINDS.values())
    problems = list(broken_packages())
    for registry in kinds:
        entries = registry.entries()
        say(f"{registry.kind}: {registry.what}")
        print_table("", [(entry.name, f"{entry.owner}, {entry.place}") for entry in entries] or [("none", "")])
        if arguments.check:
            problems += [problem for entry in entries if (problem := _problem(registry, entry))]
    for problem in problems:
        say(problem)
    return 1 if problems else 0


def _problem(registry: "Registry[object]", entry: "Entry") -> str:
    from vla_ros.data_types import UserError

    try:
        registry.entry(entry.name)
        registry.load(entry)
    except UserError as reason:
        return str(reason)
    return ""
