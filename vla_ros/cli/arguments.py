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
DEFAULT_CONTRACT = "config/robots/metaworld_sawyer.yaml"
DEFAULT_TASK = "push-v3"
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
        "--contract", metavar="FILE", help=f"the robot's contract (the shipped {DEFAULT_CONTRACT} by default)"
    )
    parser.add_argument("--task", default=DEFAULT_TASK, help="task by name; of MetaWorld, push-v3 if empty")
    parser.add_argument(
        "--domain-id",
        type=domain_id,
        metavar="N",
        help="ROS_DOMAIN_ID, e.g. to look on with other tools (a free one by default)",
    )


def contract_path(given: str | None) -> Path:
    """Return the contract given, or the shipped one.

    Raises:
        ConfigError: The shipped one is missing from the installation.
    """
    from vla_ros.data_types.resources import resource_path

    return Path(given) if given else resource_path(DEFAULT_CONTRACT)


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
