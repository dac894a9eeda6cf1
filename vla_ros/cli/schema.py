"""``vla_ros schema``: print the JSON schema of a configuration file, for editors."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import add_command
from vla_ros.cli.console import say
from vla_ros.data_types import ConfigError, nearest_name

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers

FILES = ("contract", "recipe", "sim", "sim_mobile_base", "policy_node")


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    command = add_command(
        commands,
        "schema",
        run,
        "print the JSON schema of a configuration file",
        "Print the JSON schema of a kind of configuration file. Editors complete and check YAML with it: begin a file "
        "with the line '# yaml-language-server: $schema=FILE'.",
    )
    command.add_argument("name", metavar="NAME", help=f"{', '.join(FILES)}, or a policy whose options the file holds")
    command.add_argument("--output", metavar="FILE", help="write it there (to the terminal by default)")


def run(arguments: argparse.Namespace) -> int:
    """Print or write the schema."""
    text = json.dumps(schema_of(arguments.name), indent=2, ensure_ascii=False)
    if arguments.output is None:
        print(text)
        return 0
    path = Path(arguments.output)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as reason:
        raise ConfigError(f"{path}: cannot be written: {reason.strerror}.") from reason
    say(f"{path}: JSON schema of {arguments.name}")
    return 0


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON schema of a kind of file.

    Raises:
        ConfigError: There is none of this name.
    """
    from vla_ros.schema.json_schema import json_schema

    if name == "contract":
        from vla_ros.contract import RobotContract

        return json_schema(RobotContract, "Contract of a robot")
    if name == "recipe":
        from vla_ros.training.recipe import Recipe

        schema = json_schema(Recipe, "Training recipe")
        whole = {"required": schema.pop("required")}
        return {**schema, "anyOf": [{"required": ["extends"]}, whole]}
    if name == "sim":
        from vla_ros.sim.metaworld.config import SimConfig

        return json_schema(SimConfig, "Simulated robot")
    if name == "sim_mobile_base":
        from vla_ros.sim.mobile_base.config import MobileBaseConfig

        return json_schema(MobileBaseConfig, "Simulated mobile base")
    if name == "policy_node":
        from vla_ros.nodes.common.parameters import parameter_schema
        from vla_ros.nodes.policy.policy_parameters import POLICY_PARAMETERS

        parameters: dict[str, Any] = parameter_schema("policy_node", POLICY_PARAMETERS)
        return parameters
    from vla_ros.policies import policy_class, policy_names

    names = (*FILES, *policy_names())
    if name not in names:
        raise ConfigError(f"schema '{name}' is not one of {', '.join(names)}.{nearest_name(name, names)}")
    return json_schema(policy_class(name).config_class, f"Options of {name}", ("inputs", "action"))
