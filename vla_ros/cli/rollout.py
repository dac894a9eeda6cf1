"""``vla_ros rollout``: the simulated robot under a policy, measured over many episodes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import (
    add_command,
    add_simulation_options,
    command_line,
    contract_path,
    natural_int,
    positive_float,
    positive_int,
    sim_config_path,
)
from vla_ros.cli.console import print_path, print_table, progress, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers
    from vla_ros.evaluation.rollout_report import EpisodeTrace, RolloutResult
    from vla_ros.rollouts.over_ros import RolloutOptions


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(
        commands, "rollout", run, "let a policy, the expert or random commands drive the simulated robot"
    )
    parser.add_argument(
        "--policy", choices=("checkpoint", "expert", "random"), default="checkpoint", help="what commands the robot"
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder, for --policy checkpoint")
    parser.add_argument("--episodes", type=positive_int, default=20, metavar="N", help="how many")
    parser.add_argument(
        "--first-seed", type=natural_int, default=0, metavar="S", help="episode i begins at start state S + i"
    )
    parser.add_argument(
        "--time-limit", type=positive_float, default=10.0, metavar="S", help="robot time per episode, s"
    )
    parser.add_argument(
        "--lock-step", action="store_true", help="the robot waits for the policy at every tick; hides latency"
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="policy and simulation in one process, without ROS: what the policy does at best, and quick",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="KEY",
        help="feature key of an input that the robot does not give, as of an unplugged sensor; may be repeated",
    )
    parser.add_argument("--chunk-mode", default="latest", metavar="MODE", help="how action chunks are executed")
    parser.add_argument("--record", type=natural_int, default=0, metavar="N", help="film the first N episodes")
    parser.add_argument(
        "--output", default="out/rollout", metavar="DIR", help="folder for result.json, pictures and logs"
    )
    add_simulation_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Roll out, print the table, write ``result.json``."""
    from vla_ros.data_types import ConfigError
    from vla_ros.rollouts.over_ros import RolloutOptions

    if arguments.policy == "checkpoint" and not arguments.checkpoint:
        raise ConfigError("--policy checkpoint needs --checkpoint DIR; or choose --policy expert or --policy random.")
    if arguments.policy != "checkpoint" and arguments.checkpoint:
        raise ConfigError(f"--checkpoint has no meaning with --policy {arguments.policy}; leave one of them out.")
    if arguments.policy != "checkpoint" and arguments.without:
        raise ConfigError(
            f"--without has no meaning with --policy {arguments.policy}, which sees the simulation itself."
        )
    if arguments.in_process:
        return _run_in_process(arguments)
    options = RolloutOptions(
        contract=contract_path(arguments.contract, arguments.robot),
        output=Path(arguments.output),
        task=arguments.task,
        driver=arguments.policy,
        checkpoint=Path(arguments.checkpoint) if arguments.checkpoint else None,
        episodes=arguments.episodes,
        first_seed=arguments.first_seed,
        time_limit_s=arguments.time_limit,
        lock_step=arguments.lock_step,
        chunk_mode=arguments.chunk_mode,
        record_episodes=arguments.record,
        domain_id=arguments.domain_id,
        simulator=arguments.sim,
        sim_config=sim_config_path(arguments),
        unplugged=tuple(arguments.without),
    )
    roll_out_and_report(options, picture="episode.png", video="rollout.mp4")
    return 0


def _run_in_process(arguments: argparse.Namespace) -> int:
    """Roll out without ROS; the same table and ``result.json``, without times."""
    from vla_ros.contract import load_contract
    from vla_ros.data_types import ConfigError
    from vla_ros.evaluation.rollout_report import summarise, table_rows
    from vla_ros.rollouts.in_process import make_driver, run_in_process
    from vla_ros.runtime import RuntimeOptions
    from vla_ros.sim import SimRequest, make_robot

    if arguments.record or arguments.lock_step:
        raise ConfigError("--in-process films nothing and has no lock-step; leave out --record and --lock-step.")
    contract = load_contract(contract_path(arguments.contract, arguments.robot))
    config = sim_config_path(arguments)
    robot = make_robot(arguments.sim, SimRequest(contract, arguments.task, arguments.first_seed, config))
    try:
        options = RuntimeOptions(chunk_mode=arguments.chunk_mode)
        driver = make_driver(
            arguments.policy, contract, checkpoint=arguments.checkpoint, options=options, unplugged=arguments.without
        )
        episodes = run_in_process(
            robot,
            contract,
            driver,
            episodes=arguments.episodes,
            first_seed=arguments.first_seed,
            time_limit_s=arguments.time_limit,
        )
        traces = []
        with progress("episode", arguments.episodes) as advance:
            for trace in episodes:
                traces.append(trace)
                advance(_episode_note(trace))
    finally:
        robot.close()
    name = arguments.checkpoint or arguments.policy
    result = summarise(
        traces,
        robot=contract.robot_type,
        task=robot.task,
        policy=name,
        control_rate_hz=contract.control_rate_hz,
        lock_step=True,
        command=command_line(),
    )
    print_table(f"{robot.task}: {name}, in process", table_rows(result))
    result.save(Path(arguments.output) / "result.json")
    print_path("written", Path(arguments.output))
    return 0


def roll_out_and_report(options: "RolloutOptions", *, picture: str, video: str) -> "RolloutResult":
    """Run, print the table, write ``result.json`` and, where episodes were filmed, the video and the picture."""
    from vla_ros.contract import load_contract
    from vla_ros.evaluation.rollout_report import summarise, table_rows
    from vla_ros.rollouts.over_ros import run_rollout

    contract = load_contract(options.contract)
    with progress("episode", options.episodes) as advance:
        traces = run_rollout(options, lambda trace: advance(_episode_note(trace)), say)
    driver = _short(options.checkpoint) if options.checkpoint is not None else options.driver
    result = summarise(
        traces,
        robot=contract.robot_type,
        task=traces[0].task,
        policy=driver,
        control_rate_hz=contract.control_rate_hz,
        lock_step=options.lock_step,
        command=command_line(),
    )
    print_table(f"{traces[0].task}: {driver}", table_rows(result))
    result.save(options.output / "result.json")
    if options.record_episodes:
        _save_pictures(options, traces, options.output / picture, options.output / video)
    print_path("written", options.output)
    return result


def _short(path: Path) -> str:
    """Return a path as a person in this folder would write it."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else str(path)


def _save_pictures(options: "RolloutOptions", traces: "list[EpisodeTrace]", picture: Path, video: Path) -> None:
    from vla_ros.contract import load_contract
    from vla_ros.evaluation.plan_view import add_plan_view
    from vla_ros.evaluation.rollout_pictures import save_episode_picture, save_video

    contract = load_contract(options.contract)
    recorded = traces[: options.record_episodes]
    for trace in recorded:
        add_plan_view(trace, contract)
    save_video(video, recorded, contract.fps)
    shown = next((trace for trace in recorded if trace.success), recorded[0])
    save_episode_picture(
        picture, shown, contract.commanded.action, f"{shown.task}, start {shown.seed}: {_episode_note(shown)}"
    )


def _episode_note(trace: "EpisodeTrace") -> str:
    if trace.success:
        return f"success after {trace.time_s:.1f} s"
    return f"no success in {trace.time_s:.1f} s" + (f" ({trace.note})" if trace.note else "")
