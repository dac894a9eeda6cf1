"""``vla_ros imagine``: what a world model expects beside what happened."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command, positive_int
from vla_ros.cli.console import print_path, print_table

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "imagine",
        run,
        "draw what a world model imagines beside what was recorded",
        "The model sees the first frames of an episode and then the actions alone. The picture has recorded frames "
        "above imagined ones; a line marks where imagination begins.",
    )
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="checkpoint folder of a world model")
    parser.add_argument("--dataset", required=True, metavar="DIR", help="dataset recorded with the same robot")
    parser.add_argument("--episode", type=int, default=0, metavar="N", help="which episode")
    parser.add_argument("--context", type=positive_int, default=5, metavar="N", help="frames that are seen")
    parser.add_argument("--ticks", type=positive_int, default=30, metavar="N", help="frames that are imagined")
    parser.add_argument("--output", default="out/imagine.png", metavar="FILE", help="picture to write")


def run(arguments: argparse.Namespace) -> int:
    """Imagine, print the errors and write the picture."""
    from vla_ros.checkpoint import load_checkpoint
    from vla_ros.datasets import EpisodeDataset
    from vla_ros.evaluation.imagination import imagine

    checkpoint, dataset = load_checkpoint(arguments.checkpoint), EpisodeDataset(arguments.dataset)
    result = imagine(checkpoint, dataset, arguments.episode, arguments.context, arguments.ticks)
    rows = [
        (f"{ahead} ticks ahead", f"imagined {error:.4f}, last frame repeated {result.copied[ahead]:.4f}")
        for ahead, error in result.errors.items()
    ]
    print_table(f"mean squared error in normalised numbers, episode {arguments.episode}", rows)
    output = Path(arguments.output)
    result.save(output)
    print_path("written", output)
    return 0
