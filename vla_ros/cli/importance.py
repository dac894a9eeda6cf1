"""``vla_ros importance``: which inputs a policy acts on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command, positive_int
from vla_ros.cli.console import print_path, print_table, progress

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "importance",
        run,
        "see which inputs a policy acts on",
        "Exchanges each input for that of another episode at the same tick and measures how much the action changes. A "
        "policy that acts alike whatever its pictures show has learnt to read proprioception instead.",
    )
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="checkpoint folder")
    parser.add_argument("--dataset", required=True, metavar="DIR", help="dataset recorded with the same robot")
    parser.add_argument(
        "--windows", type=positive_int, default=160, metavar="N", help="at most, per part of the episode"
    )
    parser.add_argument("--output", default="out/importance", metavar="DIR", help="folder for picture and JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table and where the rest was written."""
    from vla_ros.checkpoint import load_checkpoint
    from vla_ros.data_types import ConfigError
    from vla_ros.datasets import EpisodeDataset
    from vla_ros.evaluation.importance import PHASES_S, measure_importance, table_rows

    output = Path(arguments.output)
    checkpoint, dataset = load_checkpoint(arguments.checkpoint), EpisodeDataset(arguments.dataset)
    with progress("part", len(PHASES_S) - 1) as advance:
        report = measure_importance(checkpoint, dataset, windows=arguments.windows, on_phase=advance)
    try:
        report.save(output)
    except OSError as reason:
        raise ConfigError(f"{output}: the report cannot be written: {reason.strerror or reason}.") from reason
    held_out = "held out in training" if report.held_out else "possibly trained on"
    print_table(
        f"{report.checkpoint} on {len(report.episodes)} episodes {held_out}; in standard deviations of the action: its "
        "error, and its change when an input is another episode's",
        table_rows(report),
    )
    print_path("written", output)
    return 0
