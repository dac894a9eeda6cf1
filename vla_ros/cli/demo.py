"""``vla_ros demo``: the shipped policy drives the simulated robot."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import (
    DEFAULT_CHECKPOINT,
    DEFAULT_CONTRACT,
    add_command,
    domain_id,
    natural_int,
    positive_int,
)
from vla_ros.cli.rollout import roll_out_and_report

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers

FILMED_EPISODES = 6


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(
        commands, "demo", run, "let the shipped policy push the puck for 20 episodes",
        f"Starts the simulated robot and the policy node as two processes that talk over DDS, runs episodes from "
        f"starts that {DEFAULT_CHECKPOINT} was not trained on, and prints success, rate, jitter and latency.",
    )  # fmt: skip
    parser.add_argument("--episodes", type=positive_int, default=20, metavar="N", help="how many")
    parser.add_argument(
        "--first-seed", type=natural_int, default=0, metavar="S", help="episode i begins at start state S + i"
    )
    parser.add_argument(
        "--output", default="out/demo", metavar="DIR", help="folder for result.json, demo.mp4, episode.png and logs"
    )
    parser.add_argument("--domain-id", type=domain_id, metavar="N", help="ROS_DOMAIN_ID (a free one by default)")


def run(arguments: argparse.Namespace) -> int:
    """Roll out the shipped checkpoint, film the first episodes."""
    from vla_ros.data_types.resources import resource_path
    from vla_ros.rollouts.over_ros import RolloutOptions

    options = RolloutOptions(
        contract=resource_path(DEFAULT_CONTRACT),
        output=Path(arguments.output),
        checkpoint=_shipped_checkpoint(),
        episodes=arguments.episodes,
        first_seed=arguments.first_seed,
        record_episodes=min(arguments.episodes, FILMED_EPISODES),
        domain_id=arguments.domain_id,
    )
    roll_out_and_report(options, picture="episode.png", video="demo.mp4")
    return 0


def _shipped_checkpoint() -> Path:
    from vla_ros.data_types import CheckpointError, ConfigError
    from vla_ros.data_types.resources import resource_path

    try:
        return resource_path(DEFAULT_CHECKPOINT)
    except ConfigError as missing:
        raise CheckpointError(
            f"{missing} It ships with the package; let one of your own drive with `vla_ros rollout --checkpoint DIR`."
        ) from missing
