"""Argument types and options that several commands share. Standard library only: ``--help`` must be instant."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (argparse has no public name for it)

Number = TypeVar("Number", int, float)
Run = Callable[[argparse.Namespace], int]
DEFAULT_ROBOT = "metaworld_sawyer"
DEFAULT_CONTRACT = f"config/robots/{DEFAULT_ROBOT}.yaml"
DEFAULT_CHECKPOINT = "models/metaworld_push_bc"


def add_command(
    commands: "Subparsers", name: str, run: Run, summary: str, description: str = ""
) -> argparse.ArgumentParser:
    """Add a command whose module-level function `run` takes the parsed arguments and returns the exit code."""
    parser = commands.add_parser(
        name, help=summary, description=description or summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


def positive_int(text: str) -> int:
    """Parse an integer of at least 1."""
    return _checked(text, int, lambda value: value >= 1, "a whole number of at least 1")


def natural_int(text: str) -> int:
    """Parse an integer of at least 0."""
    return _checked(text, int, lambda value: value >= 0, "a whole number of at least 0")


def positive_float(text: str) -> float:
    """Parse a number above 0."""
    return _checked(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def natural_float(text: str) -> float:
    """Parse a number of at least 0."""
    return _checked(text, float, lambda value: 0 <= value < float("inf"), "a number of at least 0")


def domain_id(text: str) -> int:
    """Parse a ROS domain id."""
    return _checked(text, int, lambda value: 0 <= value <= 101, "a ROS domain id from 0 to 101")


def add_simulation_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that starts the simulated robot takes."""
    parser.add_argument(
        "--robot",
        metavar="NAME",
        help=f"a shipped robot: config/robots/NAME.yaml, simulated as config/sim/NAME.yaml says ({DEFAULT_ROBOT} by "
        "default)",
    )
    parser.add_argument("--contract", metavar="FILE", help="the robot's contract, in place of a shipped one")
    parser.add_argument("--task", default="", help="task by name; the simulator's own if empty, of MetaWorld push-v3")
    parser.add_argument(
        "--sim", default="", metavar="NAME", help="simulator by name, of those that are installed (metaworld if empty)"
    )
    parser.add_argument("--sim-config", metavar="FILE", help="the simulator's file; may name it, as simulator: NAME")
    parser.add_argument(
        "--domain-id",
        type=domain_id,
        metavar="N",
        help="ROS_DOMAIN_ID, e.g. to look on with other tools (a free one by default)",
    )


def contract_path(given: str | None, robot: str | None = None) -> Path:
    """Return the contract given, or that of a shipped robot.

    Raises:
        ConfigError: Both are given, or there is no such robot.
    """
    from vla_ros.data_types import ConfigError
    from vla_ros.data_types.resources import resource_path

    if given and robot:
        raise ConfigError(f"--robot {robot} and --contract {given} contradict each other; leave one of them out.")
    return Path(given) if given else resource_path(f"config/robots/{robot or DEFAULT_ROBOT}.yaml")


def sim_config_path(arguments: argparse.Namespace) -> Path | None:
    """Return the simulator's file given, or that of a shipped robot; None for the simulator's own."""
    from vla_ros.data_types import ConfigError
    from vla_ros.data_types.resources import resource_path

    if arguments.sim_config:
        return Path(arguments.sim_config)
    if arguments.contract or arguments.sim:
        return None
    try:
        return resource_path(f"config/sim/{arguments.robot or DEFAULT_ROBOT}.yaml")
    except ConfigError as missing:
        raise ConfigError(
            f"--robot {arguments.robot or DEFAULT_ROBOT} is not simulated: {missing} Name a simulator by --sim."
        ) from missing


def command_line() -> str:
    """Return this command as it can be typed again."""
    return shlex.join(["vla_ros", *sys.argv[1:]])


def _checked(text: str, kind: Callable[[str], Number], holds: Callable[[Number], bool], expected: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not {expected}")
    return value
