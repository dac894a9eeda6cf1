"""A bag through the robot's own runtime: what would the policy have commanded, and what did the demonstrator command?

Pipeline, policy runner, chunk executor and safety filter are those of the policy node; only the clock is the bag's.
Time is an argument everywhere, nothing sleeps, and a replay is a function of its arguments: twice the same, to the
last digit.

A chunk is available `latency_s` after its observation's tick. With 0 it answers its own tick, as in lock-step; with the
latency measured on a robot the replay commands what that robot would have.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.bags import BagMessage, bag_deserializer, bag_topics, read_messages
from vla_ros.checkpoint import Checkpoint, load_checkpoint
from vla_ros.contract import RobotContract, contract_differences, load_contract
from vla_ros.converters.late_list import read_late_list
from vla_ros.data_types import NANOSECONDS, ConfigError, DatasetError, nearest_name
from vla_ros.evaluation.listed_bag import ListedBag
from vla_ros.evaluation.replay_report import ReplayTrace, format_report, plot_replay, summarise
from vla_ros.evaluation.replay_run import EpisodeReplay
from vla_ros.runtime import RuntimeOptions

REPORT, PLOT = "replay.json", "replay.png"
LONGEST_SILENCE_S = 600
"""A bag with a longer pause was recorded across a jump of the clock; its ticks would be counted for years."""


@dataclass(frozen=True)
class ReplayResult:
    """What a replay found.

    Attributes:
        summary: The content of the JSON report.
        trace: Recorded and commanded actions, tick by tick.
        report: JSON file.
        plot: PNG file.
    """

    summary: dict[str, Any]
    trace: ReplayTrace
    report: Path
    plot: Path

    def __str__(self) -> str:
        return format_report(self.summary)


def replay_bag(
    bag: Path,
    checkpoint: Path,
    contract: Path | None,
    output: Path,
    *,
    latency_s: float = 0.0,
    chunk_mode: str = "latest",
    seed: int = 0,
    device: str = "cpu",
    late_samples: Path | None = None,
) -> ReplayResult:
    """Run a recorded episode through a checkpoint and compare its commands with the recorded action.

    Args:
        bag: rosbag2 folder or storage file of one episode.
        checkpoint: Checkpoint folder.
        contract: The robot's contract; None takes the bag's own ``contract.yaml``, else the checkpoint's.
        output: Folder for ``replay.json`` and ``replay.png``.
        latency_s: From an observation's tick to its chunk being available, in s.
        chunk_mode: As `ChunkExecutor`.
        seed: Of the sampling noise of policies that draw it.
        device: torch device.
        late_samples: List of samples that a node assembled ticks without, as `read_late_list`. Every tick then has the
            samples by their stamps but for those, as in a dataset converted with that list. Without it the replay waits
            for samples as a node does that receives them when the recorder did.

    Raises:
        DatasetError: The bag is missing, damaged, lacks a topic, or never has all inputs at once.
        ContractError: The contract cannot be read.
        CheckpointError: The checkpoint cannot be read, or was trained under another contract than the robot's.
        DecodeError: A recorded action is not what the contract says.
        ConfigError: An option is out of range, or the report cannot be written.
    """
    if not 0.0 <= latency_s < LONGEST_SILENCE_S:
        raise ConfigError(f"latency_s={latency_s} must be at least 0 and less than {LONGEST_SILENCE_S}.")
    bag, output = Path(bag), Path(output)
    loaded = load_checkpoint(checkpoint, device)
    robot = _robot_contract(bag, contract, loaded)
    feed = None if late_samples is None else ListedBag(bag, robot, read_late_list(Path(late_samples)))
    run = EpisodeReplay(
        robot if feed is None else feed.contract,
        loaded,
        bag_deserializer(bag),
        latency_ns=round(latency_s * NANOSECONDS),
        options=RuntimeOptions(instruction=_first_instruction(bag, robot), chunk_mode=chunk_mode, robot_follows=False),
        seed=seed,
    )
    _show_goal(bag, robot, run)
    messages = _messages(bag, robot, run.topics())
    trace = run.over(messages) if feed is None else run.over_ticks(feed.items(messages), feed.max_wait_ns)
    summary = {
        "bag": bag.resolve().name,
        "checkpoint": loaded.path.resolve().name,
        "policy": loaded.policy.name,
        "robot_type": robot.robot_type,
        "contract_hash": robot.hash,
        "instruction": run.runtime.instruction,
        "latency_s": latency_s,
        "chunk_mode": chunk_mode,
        "seed": seed,
        "late_samples": None if late_samples is None else Path(late_samples).name,
        "refused_goals": trace.refused,
        **summarise(trace, robot),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / REPORT).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        plot_replay(trace, robot, summary, output / PLOT)
    except OSError as reason:
        raise ConfigError(f"{output}: the report cannot be written: {reason.strerror or reason}.") from reason
    return ReplayResult(summary, trace, output / REPORT, output / PLOT)


def _robot_contract(bag: Path, given: Path | None, checkpoint: Checkpoint) -> RobotContract:
    """Choose the contract, and refuse a bag or a checkpoint made under one that means something else."""
    recorded_path = _beside(bag) / "contract.yaml"
    recorded = load_contract(recorded_path) if recorded_path.is_file() else None
    robot = load_contract(given) if given is not None else recorded or checkpoint.contract
    if recorded is not None and recorded.hash != robot.hash:
        differing = "; ".join(contract_differences(recorded, robot))
        raise DatasetError(
            f"{bag}: recorded under contract hash {recorded.hash} ({recorded.robot_type}), and {robot.source} has "
            f"{robot.hash} ({robot.robot_type}): {differing}; "
            "replay it under the contract it was recorded with."
        )
    checkpoint.check_robot(robot)
    return robot


def _beside(bag: Path) -> Path:
    """Return the folder in which the recorder left what it knew of the episode."""
    return bag if bag.is_dir() else bag.parent


def _first_instruction(bag: Path, robot: RobotContract) -> str:
    """Return what holds until the bag's first instruction message: the episode's, else the contract's default."""
    path = _beside(bag) / "episode.json"
    if not path.is_file():
        return robot.instruction.default
    try:
        episode = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise DatasetError(f"{path}: not readable as JSON: {reason}") from reason
    instruction = episode.get("instruction") if isinstance(episode, dict) else None
    return str(instruction) if instruction else robot.instruction.default


def _show_goal(bag: Path, robot: RobotContract, run: EpisodeReplay) -> None:
    """Where the policy wants a goal and the bag has none, take what training takes: its camera's last image."""
    for spec in run.runtime.specs:
        if not spec.is_latched or not spec.camera or spec.topic in bag_topics(bag):
            continue
        camera = next(other for other in robot.inputs if other.key == spec.camera)
        last = None
        for message in read_messages(bag, [camera.topic]):
            last = message
        if last is not None and last.type == spec.type:
            run.latch(spec.key, last.raw)


def _messages(bag: Path, robot: RobotContract, needed: dict[str, str]) -> Iterator[BagMessage]:
    """Yield what the replay reads, after all topics and types were checked.

    Raises:
        DatasetError: Names every missing topic with the nearest one there is, or the topic of another type.
    """
    there = bag_topics(bag)
    missing = [
        f"'{topic}' ({type_name}){nearest_name(topic, there)}"
        for topic, type_name in needed.items()
        if topic not in there
    ]
    if missing:
        raise DatasetError(
            f"{bag}: the bag has no topic {', no topic '.join(missing)} It has {', '.join(sorted(there))}."
        )
    for topic, type_name in needed.items():
        if there[topic] != type_name:
            raise DatasetError(f"{bag}: '{topic}' is {there[topic]} in the bag and {type_name} in {robot.source}.")
    topics = set(needed) | {spec.topic for spec in robot.goals if there.get(spec.topic) == spec.type}
    topics |= {spec.transform.static_topic for spec in robot.inputs if spec.transform is not None} & there.keys()
    before_ns: int | None = None
    for message in read_messages(bag, topics):
        if before_ns is not None and message.receive_ns - before_ns > LONGEST_SILENCE_S * NANOSECONDS:
            pause_s = (message.receive_ns - before_ns) / NANOSECONDS
            raise DatasetError(
                f"{bag}: nothing was received for {pause_s:.0f} s; the clock jumped while it was recorded."
            )
        before_ns = message.receive_ns
        yield message
