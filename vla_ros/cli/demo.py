"""``vla_ros demo``: a shipped policy drives its simulated robot."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vla_ros.cli.arguments import (
    DEFAULT_CHECKPOINT,
    DEFAULT_ROBOT,
    add_command,
    domain_id,
    natural_int,
    positive_int,
)
from vla_ros.cli.rollout import roll_out_and_report

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers

FILMED_EPISODES = 6


class Demo(NamedTuple):
    """What is shown of a robot.

    Attributes:
        checkpoint: Folder that ships with the package.
        task: Empty for the simulator's own.
        time_limit_s: Robot time for an episode.
    """

    checkpoint: str
    task: str
    time_limit_s: float


DEMOS = {
    DEFAULT_ROBOT: Demo(DEFAULT_CHECKPOINT, "", 10.0),
    "mobile_base": Demo("models/mobile_base_fused", "obstacles", 26.0),
}
"""Robot → its demonstration."""


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(
        commands, "demo", run, "let a shipped policy drive its robot for 20 episodes",
        "Starts the simulated robot and the policy node as two processes that talk over DDS, runs episodes from starts "
        "that the shipped policy was not trained on, and prints success, rate, jitter and latency.",
    )  # fmt: skip
    parser.add_argument(
        "--robot",
        choices=tuple(DEMOS),
        default=DEFAULT_ROBOT,
        help="the arm that pushes a puck, or the base that drives",
    )
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

    demo = DEMOS[arguments.robot]
    checkpoint = _shipped(demo.checkpoint)
    options = RolloutOptions(
        contract=checkpoint / "contract.yaml",
        output=Path(arguments.output),
        task=demo.task,
        checkpoint=checkpoint,
        episodes=arguments.episodes,
        first_seed=arguments.first_seed,
        time_limit_s=demo.time_limit_s,
        record_episodes=min(arguments.episodes, FILMED_EPISODES),
        domain_id=arguments.domain_id,
        sim_config=resource_path(f"config/sim/{arguments.robot}.yaml"),
    )
    roll_out_and_report(options, picture="episode.png", video="demo.mp4")
    return 0


def _shipped(checkpoint: str) -> Path:
    from vla_ros.data_types import CheckpointError, ConfigError
    from vla_ros.data_types.resources import resource_path

    try:
        return resource_path(checkpoint)
    except ConfigError as missing:
        raise CheckpointError(
            f"{missing} This installation has no such checkpoint; let one of your own drive with "
            "`vla_ros rollout --robot NAME --checkpoint DIR`."
        ) from missing
