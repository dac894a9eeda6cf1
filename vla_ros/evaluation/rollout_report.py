"""What rollouts measured, as data, as ``result.json`` and as a short table. No ROS: the client fills in the traces.

The client runs on the robot's machine and notes its own monotonic clock whenever a message arrives, so every time
contains transport over DDS to the client. `DEFINITIONS` says what each one runs from and to. In lock-step the robot
waits for the policy; times mean nothing then and are null.
"""

import bisect
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS, Array
from vla_ros.evaluation.machine import hardware, versions
from vla_ros.evaluation.metrics import mean_rate_hz, percentiles, rounded, tick_jitter_ms, wilson_interval

DEFINITIONS = {
    "latency_ms": (
        "from the moment /clock reached an observation's stamp until the first command decided on it arrived at the "
        "observer: rendering of the simulated cameras, DDS transport, decoding, inference, the wait for the control "
        "tick that the command belongs to, safety filter, DDS transport"
    ),
    "chunk_latency_ms": (
        "from the same moment until the action chunk arrived; it is published with the first command taken from it"
    ),
    "inference_ms": (
        "in process only: one prediction, from a frame that was observed to the chunk in the robot's units, processors "
        "included, on the device the policy runs on"
    ),
    "tick_jitter_ms": "wall time between commands minus the control period: std, and percentiles of its magnitude",
    "control_rate_hz": "commands decided on an observation per second of wall time, within episodes",
    "real_time_factor": "simulated time over wall time, within episodes",
    "dropped": "in process only: commands that the safety filter dropped, by reason; docs/safety.md explains each",
    "halted_fraction": "share of the robot's control periods without a fresh command",
    "wilson_95": "Wilson score interval of the success rate",
}
"""What the numbers of ``result.json`` mean; written into it."""


UNKNOWN_OBSERVATION = -1
"""Of a command whose message does not name the observation that it answers: it counts as decided, without a latency."""


@dataclass(frozen=True)
class CommandRecord:
    """One command as the client saw it.

    Attributes:
        receive_ns: Monotonic wall clock of the client.
        effect_ns: Robot time at which it takes effect.
        observation_ns: Robot time of the observation it was decided on, 0 for a safe action; `UNKNOWN_OBSERVATION`
            where the message cannot say.
        action: float64 [A]; dx, dy, dz and gripper of the contract, as published.
    """

    receive_ns: int
    effect_ns: int
    observation_ns: int
    action: Array


@dataclass
class EpisodeTrace:
    """Everything seen of one episode.

    Attributes:
        seed: Start state.
        episode: The robot's own count.
        task: Name of the task, where the robot said it.
        scans: (robot time, x, y in m, float64 [N, 2]) of a base's LaserScan, where pictures were recorded.
        poses: (robot time, x, y, yaw in m and rad, float64 [3]) of its odometry, likewise.
        plans: (observation's robot time, float64 [H, A]) of every action chunk, likewise.
        start_ns: Robot time of the reset.
        end_ns: Robot time of the last status.
        success_ns: Robot time at which the task's criterion held first, or None.
        reward: Sum of the task's rewards.
        halted_ticks: Control periods in which the robot had no fresh command.
        ticks: Control periods.
        commands: In order of arrival.
        chunks: (receive_ns, observation_ns) of every action chunk.
        inference_ns: Wall time of every prediction, where the policy ran in the client's own process.
        clock: (robot time, wall time) of every `/clock` message, ascending.
        images: Camera key → (robot time, uint8 [h, w, 3] RGB) of every image, where they were recorded.
        note: Why the policy was not commanding, in its own words, when it last said so.
        dropped: Reason → commands that the safety filter dropped, where the policy ran in the client's own process.
    """

    seed: int
    episode: int = 0
    start_ns: int = 0
    end_ns: int = 0
    success_ns: int | None = None
    reward: float = 0.0
    halted_ticks: int = 0
    ticks: int = 0
    commands: list[CommandRecord] = field(default_factory=list)
    chunks: list[tuple[int, int]] = field(default_factory=list)
    inference_ns: list[int] = field(default_factory=list)
    clock: list[tuple[int, int]] = field(default_factory=list)
    images: dict[str, list[tuple[int, NDArray[Any]]]] = field(default_factory=dict)
    note: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    task: str = ""
    scans: list[tuple[int, NDArray[Any]]] = field(default_factory=list)
    poses: list[tuple[int, NDArray[Any]]] = field(default_factory=list)
    plans: list[tuple[int, NDArray[Any]]] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether the task's criterion held at least once."""
        return self.success_ns is not None

    @property
    def time_s(self) -> float:
        """Robot time from the reset to success, or to the end where there was none."""
        return ((self.success_ns if self.success_ns is not None else self.end_ns) - self.start_ns) / NANOSECONDS

    def wall_ns(self, robot_ns: int) -> int | None:
        """Return when `/clock` first reached `robot_ns`, on the client's clock; None if before the episode or never."""
        index = bisect.bisect_left(self.clock, (robot_ns, 0))
        if index == len(self.clock) or robot_ns < self.clock[0][0]:
            return None
        return self.clock[index][1]

    def command_latencies_ms(self) -> list[float]:
        """Return, for every observation that led to a command, the time to the first of them."""
        first: dict[int, int] = {}
        for command in self.commands:
            if command.observation_ns > 0:
                first.setdefault(command.observation_ns, command.receive_ns)
        return self._since_clock_ms(list(first.items()))

    def chunk_latencies_ms(self) -> list[float]:
        """Return, for every chunk, the time since its observation."""
        return self._since_clock_ms([(observation_ns, receive_ns) for receive_ns, observation_ns in self.chunks])

    def _since_clock_ms(self, events: Sequence[tuple[int, int]]) -> list[float]:
        pairs = [(self.wall_ns(observation_ns), receive_ns) for observation_ns, receive_ns in events]
        return [(receive_ns - wall_ns) / 1e6 for wall_ns, receive_ns in pairs if wall_ns is not None]


@dataclass(frozen=True)
class RolloutResult:
    """What ``result.json`` holds, field by field. Times in ms are None in lock-step, but for inference in process."""

    robot: str
    task: str
    policy: str
    lock_step: bool
    episodes: int
    successes: int
    success_rate: float
    wilson_95: tuple[float, float]
    mean_time_to_success_s: float | None
    control_rate_hz: float | None
    target_rate_hz: float
    real_time_factor: float | None
    tick_jitter_ms: dict[str, float] | None
    latency_ms: dict[str, float] | None
    chunk_latency_ms: dict[str, float] | None
    inference_ms: dict[str, float] | None
    halted_fraction: float
    dropped: dict[str, int]
    episode_results: tuple[dict[str, Any], ...]
    hardware: dict[str, Any]
    versions: dict[str, str]
    command: str
    definitions: dict[str, str]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rounded(asdict(self), 4), indent=2) + "\n", encoding="utf-8")


def summarise(
    traces: Sequence[EpisodeTrace],
    *,
    robot: str,
    task: str,
    policy: str,
    control_rate_hz: int,
    lock_step: bool,
    command: str,
) -> RolloutResult:
    """Return the measurement that `traces` add up to.

    Args:
        traces: At least one episode.
        robot: Contract's robot type.
        task: Name of the task.
        policy: What drove the robot: the checkpoint's folder, ``expert`` or ``random``.
        control_rate_hz: Commands per second that the contract asks for.
        lock_step: Whether the robot waited for the policy.
        command: Command line, to repeat the measurement.
    """
    successes = sum(trace.success for trace in traces)
    times = [trace.time_s for trace in traces if trace.success]
    # The stop that a reset brings is no decision; a gap between decisions shows all the same.
    received = [[c.receive_ns for c in trace.commands if c.observation_ns] for trace in traces]
    timed: Callable[[Any], Any] = (lambda _: None) if lock_step else (lambda value: value)
    return RolloutResult(
        robot=robot,
        task=task,
        policy=policy,
        lock_step=lock_step,
        episodes=len(traces),
        successes=successes,
        success_rate=successes / len(traces),
        wilson_95=wilson_interval(successes, len(traces)),
        mean_time_to_success_s=sum(times) / len(times) if times else None,
        control_rate_hz=timed(mean_rate_hz(received)),
        target_rate_hz=float(control_rate_hz),
        real_time_factor=timed(_real_time_factor(traces)),
        tick_jitter_ms=timed(tick_jitter_ms(received, NANOSECONDS // control_rate_hz)),
        latency_ms=timed(percentiles([ms for trace in traces for ms in trace.command_latencies_ms()])),
        chunk_latency_ms=timed(percentiles([ms for trace in traces for ms in trace.chunk_latencies_ms()])),
        inference_ms=percentiles([ns / 1e6 for trace in traces for ns in trace.inference_ns]),
        halted_fraction=sum(t.halted_ticks for t in traces) / max(1, sum(t.ticks for t in traces)),
        dropped=dict(sum((Counter(trace.dropped) for trace in traces), Counter())),
        episode_results=tuple(_episode_row(trace) for trace in traces),
        hardware=hardware(),
        versions=versions(),
        command=command,
        definitions=DEFINITIONS,
    )


def table_rows(result: RolloutResult) -> list[tuple[str, str]]:
    """Return the short table: (what, value) in the order in which it is read."""
    share = f"{result.successes} of {result.episodes} = {result.success_rate:.0%}"
    low, high = result.wilson_95
    seconds = result.mean_time_to_success_s
    rows = [
        ("success", f"{share}   (95 % interval {low:.0%} to {high:.0%})"),
        ("time to success", "none succeeded" if seconds is None else f"{seconds:.1f} s of robot time, mean"),
    ]
    if result.dropped:
        causes = ", ".join(f"{reason} {count}" for reason, count in sorted(result.dropped.items()))
        rows.append(("commands dropped", f"{sum(result.dropped.values())} by the safety filter: {causes}"))
    if result.inference_ms is not None:
        rows.append(("inference", ", ".join(f"{name} {value:.1f} ms" for name, value in result.inference_ms.items())))
    if result.lock_step:
        return [*rows, ("timing", "of commands not measured: in lock-step the robot waits for the policy")]
    rate, jitter = result.control_rate_hz, result.tick_jitter_ms
    rows.append(("control rate", "no commands" if rate is None else f"{rate:.2f} Hz of {result.target_rate_hz:g} Hz"))
    if jitter is not None:
        rows.append(("tick jitter", f"std {jitter['std']:.1f} ms, p99 {jitter['p99']:.1f} ms"))
    if result.latency_ms is not None:
        latency = ", ".join(f"{name} {value:.0f} ms" for name, value in result.latency_ms.items())
        rows.append(("observation → action", latency))
    elif result.chunk_latency_ms is not None:
        latency = ", ".join(f"{name} {value:.0f} ms" for name, value in result.chunk_latency_ms.items())
        rows.append(("observation → chunk", latency))
    if result.real_time_factor is not None and not math.isclose(result.real_time_factor, 1.0, abs_tol=0.02):
        rows.append(
            ("simulation speed", f"{result.real_time_factor:.2f} of real time: this machine is too slow or too busy")
        )
    return rows


def _real_time_factor(traces: Sequence[EpisodeTrace]) -> float | None:
    spans = [(t.clock[0], t.clock[-1]) for t in traces if len(t.clock) > 1]
    wall_ns = sum(last[1] - first[1] for first, last in spans)
    return sum(last[0] - first[0] for first, last in spans) / wall_ns if wall_ns else None


def _episode_row(trace: EpisodeTrace) -> dict[str, Any]:
    row: dict[str, Any] = {"seed": trace.seed, "success": trace.success, "time_s": trace.time_s, "reward": trace.reward}
    return {**row, "note": trace.note} if trace.note else row
