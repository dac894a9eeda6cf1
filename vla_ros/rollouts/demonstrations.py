"""Demonstrations: robot, expert and recorder as separate processes over DDS; successful episodes stay as bags.

The robot waits for the expert at every tick (lock-step), so that what is recorded depends on the seeds and not on
how busy the machine is. The recorder begins and ends the bags by itself, from the robot's episode status.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from vla_ros.contract import load_contract
from vla_ros.data_types import ConfigError, UserError
from vla_ros.evaluation.rollout_report import EpisodeTrace
from vla_ros.messages.types.std_msgs import MAX_TEXT
from vla_ros.rollouts.over_ros import START_TIMEOUT_S, Driver, RolloutOptions, Session, rollout_session
from vla_ros.rollouts.process_group import ChildProcess, node_command

LINGER_S = 0.25
"""Robot time recorded after success: shows that the expert then rests."""

_ANSWER_S = 20.0
_ATTEMPTS_PER_EPISODE = 4
_WARM_UPS = 60
_WARM_UPS_ONCE_HEARD = 16
_WARM_UP_S = 0.5


@dataclass(frozen=True)
class DemonstrationOptions:
    """What to record.

    Attributes:
        contract: The robot's contract.
        output: Folder for the bags, new or empty.
        task: Name of the task; empty for the simulator's own.
        episodes: How many successful episodes to keep.
        noise_std: Noise on the executed action of every second episode, in units of its full range.
        first_seed: The first attempt's start state; each attempt takes the next.
        time_limit_s: Robot time after which an attempt has failed.
        instruction: What the demonstrations show, said on the contract's topic and so recorded in every bag; empty says
            nothing.
        domain_id: ROS domain, None for a free one.
        simulator: Name; empty for the one that `sim_config` names, else MetaWorld.
        sim_config: The simulator's file, None for its own.
        noise_hold_ticks: Periods for which one draw of the noise holds.
        policy: ``expert``, or ``random`` for uniform actions.
        keep_failures: Keep every episode, whatever came of it.
    """

    contract: Path
    output: Path
    task: str = ""
    episodes: int = 150
    noise_std: float = 0.3
    first_seed: int = 100_000
    time_limit_s: float = 10.0
    instruction: str = ""
    domain_id: int | None = None
    simulator: str = ""
    sim_config: Path | None = None
    noise_hold_ticks: int = 1
    policy: Driver = "expert"
    keep_failures: bool = False

    def __post_init__(self) -> None:
        if len(self.instruction) > MAX_TEXT:
            raise ConfigError(f"an instruction has at most {MAX_TEXT} characters, got {len(self.instruction)}.")
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise ConfigError(f"{self.output}: exists and is not an empty folder; choose another output or remove it.")


@dataclass(frozen=True)
class DemonstrationReport:
    """How many attempts were kept as bags and how many failed and were deleted."""

    kept: int
    failed: int


def record_demonstrations(
    options: DemonstrationOptions, on_kept: Callable[[str], None], on_start: Callable[[str], None] = lambda _: None
) -> DemonstrationReport:
    """Record until enough episodes have succeeded.

    Args:
        options: What to record.
        on_kept: Called after each episode kept, with a few words about it.
        on_start: Called with a sentence about what is being waited for.

    Raises:
        UserError: A process could not do its part, or the expert fails too often.
    """
    rollout = RolloutOptions(
        contract=options.contract,
        output=options.output,
        task=options.task,
        driver=options.policy,
        first_seed=options.first_seed,
        time_limit_s=options.time_limit_s,
        lock_step=True,
        domain_id=options.domain_id,
        simulator=options.simulator,
        sim_config=options.sim_config,
    )
    with rollout_session(rollout, on_start) as session:
        recorder = _start_recorder(session, options)
        if options.instruction:
            _say_instruction(session, recorder, options)
        _wait_until_recorded(session, options)
        episodes, failed = _record(session, options, on_kept)
    # The recorder has ended, and with that finished its last bag.
    if options.keep_failures:
        _remove_all_but(episodes, options.output)
    kept = len(episodes)
    bags = len(list(options.output.glob("*/metadata.yaml")))
    if bags != kept:
        log = options.output / "logs" / "bag_recorder_node.log"
        raise UserError(
            f"{options.output}: {kept} episodes succeeded but {bags} bags were written; the recorder's log is {log}."
        )
    _check_instructions(options)
    return DemonstrationReport(kept, failed)


def _record(session: Session, options: DemonstrationOptions, on_kept: Callable[[str], None]) -> tuple[set[int], int]:
    """Return the numbers of the episodes that are to be kept, and how many failed."""
    set_noise = _NoiseSetter(session, options.noise_hold_ticks)
    episodes: set[int] = set()
    failed = 0
    while (kept := len(episodes)) < options.episodes:
        if kept + failed >= _ATTEMPTS_PER_EPISODE * options.episodes + 4:
            raise UserError(
                f"The expert succeeded in {kept} of {kept + failed} attempts at {session.client.task}; "
                "lower --noise or raise --time-limit."
            )
        noise_std = options.noise_std if kept % 2 else 0.0
        set_noise(noise_std)
        trace = session.client.run_episode(
            session.group,
            session.robot,
            options.first_seed + kept + failed,
            time_limit_s=options.time_limit_s,
            linger_s=LINGER_S,
        )
        if trace.success or options.keep_failures:
            episodes.add(trace.episode)
            on_kept(_note(trace, noise_std))
        else:
            failed += 1
    return episodes, failed


def _start_recorder(session: Session, options: DemonstrationOptions) -> ChildProcess:
    parameters = {
        "contract": options.contract.resolve(),
        "output": options.output.resolve(),
        "auto_episodes": True,
        "discard_failures": not options.keep_failures,
        "use_sim_time": True,
    }
    recorder = session.group.start("bag_recorder_node", node_command("bag_recorder_node", parameters))
    node, topic = session.client.node, session.client.command_sink.topic
    before = node.count_subscribers(topic)
    session.group.wait_until(
        lambda: node.count_subscribers(topic) > before, f"subscribe to {topic}", recorder, START_TIMEOUT_S
    )
    return recorder


def _say_instruction(session: Session, recorder: ChildProcess, options: DemonstrationOptions) -> None:
    """Publish the instruction once; whoever subscribes later hears it too."""
    spec = load_contract(options.contract).instruction
    publisher = session.client.node.create_publisher(
        String, spec.topic, QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    publisher.publish(String(data=options.instruction))
    session.group.wait_until(
        lambda: publisher.get_subscription_count() > 0, f"subscribe to {spec.topic}", recorder, START_TIMEOUT_S
    )


def _check_instructions(options: DemonstrationOptions) -> None:
    """Refuse bags whose recorder did not hear the instruction.

    Raises:
        UserError: Names the first.
    """
    for path in sorted(options.output.glob("*/episode.json")):
        noted = json.loads(path.read_text(encoding="utf-8"))["instruction"]
        if noted != options.instruction:
            raise UserError(
                f"{path}: was recorded under the instruction '{noted}' and not '{options.instruction}'; record again."
            )


def _wait_until_recorded(session: Session, options: DemonstrationOptions) -> None:
    """Drive short episodes, which fail and are discarded, until the recorder writes one, and a few more.

    That a publisher knows its reader does not mean that the reader hears it already, and nothing but the recorder's own
    folder tells. Its other topics are matched around the same time; the few more are for them.
    """
    left = _WARM_UPS_ONCE_HEARD
    for _ in range(_WARM_UPS):
        session.client.run_episode(
            session.group, session.robot, options.first_seed, time_limit_s=_WARM_UP_S, linger_s=0.0
        )
        left -= left < _WARM_UPS_ONCE_HEARD or (options.output / "episode_000000").exists()
        if left == 0:
            return
    log = options.output / "logs" / "bag_recorder_node.log"
    raise UserError(f"The bag recorder hears nothing of the robot after {_WARM_UPS} episodes; its log is {log}.")


class _NoiseSetter:
    """Sets the expert's noise from the next episode on; asks only when it changes."""

    def __init__(self, session: Session, hold_ticks: int) -> None:
        self._session, self._hold_ticks = session, hold_ticks
        self._client = AsyncParameterClient(session.client.node, "expert")
        self._noise_std = 0.0

    def __call__(self, noise_std: float) -> None:
        if noise_std == self._noise_std:
            return
        group, expert = self._session.group, self._session.driver
        group.wait_until(self._client.services_are_ready, "serve its parameters", expert, _ANSWER_S)
        answer = self._client.set_parameters(
            [Parameter("noise_std", value=noise_std), Parameter("noise_hold_ticks", value=self._hold_ticks)]
        )
        group.wait_until(answer.done, "accept its noise", expert, _ANSWER_S)
        for result in answer.result().results:
            if not result.successful:
                raise UserError(f"The expert refused noise_std {noise_std:g}: {result.reason}")
        self._noise_std = noise_std


def _remove_all_but(episodes: set[int], output: Path) -> None:
    """Remove the bags of episodes that were driven until the recorder heard everything."""
    for facts in output.glob("*/episode.json"):
        if json.loads(facts.read_text(encoding="utf-8"))["episode"] not in episodes:
            shutil.rmtree(facts.parent)


def _note(trace: EpisodeTrace, noise_std: float) -> str:
    noise = f", noise {noise_std:g}" if noise_std else ""
    outcome = "success after" if trace.success else "no success in"
    return f"start {trace.seed}, {outcome} {trace.time_s:.1f} s{noise}"
