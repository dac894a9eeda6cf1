"""``vla_ros policies``: which architectures there are, and what each can be told."""

import argparse
import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import add_command
from vla_ros.cli.console import print_table, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers


def add_parser(commands: "Subparsers") -> None:
    """Add the command and its two actions."""
    group = commands.add_parser("policies", help="list the architectures, or describe one")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = add_command(actions, "list", run_list, "print the name and purpose of every policy")
    describe = add_command(actions, "describe", run_describe, "print a policy's configuration: field, type, default")
    describe.add_argument("name", metavar="NAME", help="as `vla_ros policies list` prints it")
    for parser in (listing, describe):
        parser.add_argument("--json", action="store_true", help="print JSON")


def run_list(arguments: argparse.Namespace) -> int:
    """Print the names with a summary each; one whose package is broken is listed with the reason."""
    from vla_ros.policies.registry import policy_names

    rows = [(name, _summary(name)) for name in policy_names()]
    if arguments.json:
        say(json.dumps([{"name": name, "summary": summary} for name, summary in rows], indent=2))
    else:
        print_table("policies", rows)
    return 0


def run_describe(arguments: argparse.Namespace) -> int:
    """Print one policy's configuration."""
    from vla_ros.policies.registry import policy_class

    policy = policy_class(arguments.name)
    fields = [_field(field) for field in dataclasses.fields(policy.config_class)]
    if arguments.json:
        say(json.dumps({"name": arguments.name, "summary": _summary(arguments.name), "config": fields}, indent=2))
        return 0
    say(f"{arguments.name}: {inspect.getdoc(policy) or ''}".strip())
    print_table("configuration", [(field["name"], f"{field['type']}, {_default(field)}") for field in fields])
    say(inspect.getdoc(policy.config_class) or "")
    return 0


def _summary(name: str) -> str:
    from vla_ros.data_types import ConfigError
    from vla_ros.policies.registry import policy_class

    try:
        documentation = inspect.getdoc(policy_class(name)) or ""
    except ConfigError as error:
        return str(error)
    return documentation.partition("\n\n")[0].replace("\n", " ")


def _field(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    described: dict[str, Any] = {"name": field.name, "type": kind if "[" not in str(field.type) else str(field.type)}
    if field.default is not dataclasses.MISSING:
        described["default"] = field.default
    elif field.default_factory is not dataclasses.MISSING:
        described["default"] = field.default_factory()
    return json.loads(json.dumps(described, default=str))  # type: ignore[no-any-return]


def _default(field: dict[str, Any]) -> str:
    return f"default {field['default']!r}" if "default" in field else "required"
