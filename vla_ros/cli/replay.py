"""``vla_ros replay``: a recorded bag through the policy's runtime, under the bag's clock."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command, natural_float
from vla_ros.cli.console import print_path, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "replay",
        run,
        "compare a policy with a bag's recorded action",
        "Runs a bag through the same runtime as the policy node and reports the error of every action dimension.",
    )
    parser.add_argument("--bag", required=True, metavar="DIR", help="bag of one episode")
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="checkpoint folder")
    parser.add_argument("--contract", metavar="FILE", help="the robot's contract (the checkpoint's own by default)")
    parser.add_argument("--output", default="out/replay", metavar="DIR", help="folder for report, plot and JSON")
    parser.add_argument("--chunk-mode", default="latest", metavar="MODE", help="how action chunks are executed")
    parser.add_argument(
        "--latency", type=natural_float, default=0.0, metavar="S", help="simulated inference latency, s"
    )
    parser.add_argument(
        "--late-samples",
        metavar="FILE",
        help="let ticks have their samples by stamps but for these, which a live node assembled them without: a "
        "conversion_report.json, or a bag with the node's ~/late_samples; by default the bag is played as received",
    )


def run(arguments: argparse.Namespace) -> int:
    """Replay, print the report and where it was written."""
    from vla_ros.evaluation.replay import replay_bag

    contract = Path(arguments.contract) if arguments.contract else None
    output = Path(arguments.output)
    result = replay_bag(
        Path(arguments.bag),
        Path(arguments.checkpoint),
        contract,
        output,
        latency_s=arguments.latency,
        chunk_mode=arguments.chunk_mode,
        late_samples=Path(arguments.late_samples) if arguments.late_samples else None,
    )
    say(str(result))
    print_path("written", output)
    return 0
