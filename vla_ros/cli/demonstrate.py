"""``vla_ros demonstrate``: the expert drives the simulated robot while every episode becomes a bag."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import (
    add_command,
    add_simulation_options,
    contract_path,
    natural_float,
    natural_int,
    positive_float,
    positive_int,
    sim_config_path,
)
from vla_ros.cli.console import print_path, progress, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(
        commands, "demonstrate", run, "record bags of the expert at work, one per episode",
        "Starts the simulated robot (lock-step), the task's scripted expert and the bag recorder as three processes "
        "and keeps the episodes that succeed. Every second one is driven with noise on what is executed, not on what "
        "is recorded as the action, so that the data shows how to recover.",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the bags; new or empty")
    parser.add_argument("--episodes", type=positive_int, default=150, metavar="N", help="how many to keep")
    parser.add_argument("--policy", choices=("expert", "random"), default="expert", help="what drives the robot")
    parser.add_argument("--keep-failures", action="store_true", help="keep every episode, whatever came of it")
    parser.add_argument(
        "--noise",
        type=natural_float,
        default=0.3,
        metavar="STD",
        help="noise on the executed action, of its full range",
    )
    parser.add_argument(
        "--noise-hold",
        type=positive_int,
        default=1,
        metavar="N",
        help="periods for which one draw of the noise holds; longer pushes the robot farther off",
    )
    parser.add_argument(
        "--first-seed",
        type=natural_int,
        default=100_000,
        metavar="S",
        help="first start state; far from those that rollouts use",
    )
    parser.add_argument(
        "--time-limit", type=positive_float, default=10.0, metavar="S", help="robot time per episode, s"
    )
    parser.add_argument(
        "--instruction", default="", metavar="TEXT", help="what the demonstrations show, recorded in every bag"
    )
    add_simulation_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Record and print where the bags are."""
    from vla_ros.rollouts.demonstrations import DemonstrationOptions, record_demonstrations

    options = DemonstrationOptions(
        contract=contract_path(arguments.contract, arguments.robot),
        output=Path(arguments.output),
        task=arguments.task,
        episodes=arguments.episodes,
        noise_std=arguments.noise,
        first_seed=arguments.first_seed,
        time_limit_s=arguments.time_limit,
        instruction=arguments.instruction.strip(),
        domain_id=arguments.domain_id,
        simulator=arguments.sim,
        sim_config=sim_config_path(arguments),
        noise_hold_ticks=arguments.noise_hold,
        policy=arguments.policy,
        keep_failures=arguments.keep_failures,
    )
    with progress("demonstration", options.episodes) as advance:
        report = record_demonstrations(options, advance, say)
    say(f"{report.kept} episodes kept, {report.failed} failed and discarded")
    print_path("bags", options.output)
    return 0
