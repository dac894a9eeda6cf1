"""``vla_ros train``: a recipe and a dataset become a checkpoint."""

import argparse
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(commands, "train", run, "train a policy by a recipe")
    parser.add_argument(
        "recipe", metavar="RECIPE", help="training recipe, YAML, e.g. config/training/metaworld_push_bc.yaml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a.b=c",
        dest="overrides",
        help="change one field of the recipe; repeatable",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue the run in the output folder where it stopped")
    again.add_argument(
        "--overwrite", action="store_true", help="start anew where the output folder holds a run already"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train; progress and the place of the checkpoint are printed on the way."""
    from vla_ros.training import load_recipe, train

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    train(recipe, resume=arguments.resume, overwrite=arguments.overwrite)  # its progress says where the checkpoint is
    return 0
