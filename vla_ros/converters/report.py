"""What a conversion did, episode by episode and stream by stream; becomes ``conversion_report.json``."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.converters.episode import LateFrame
from vla_ros.converters.timing import StreamTimes
from vla_ros.data_types import NANOSECONDS
from vla_ros.streams import LateSample


@dataclass(frozen=True)
class StreamReport:
    """Quality of one stream within one episode.

    Attributes:
        key: Feature key.
        topic: ROS topic.
        messages: Samples with a usable stamp.
        refused: Messages without one: late, repeated, unstamped or damaged.
        rate_hz: Mean rate of the samples.
        longest_gap_s: Longest time between two samples within the episode.
        delay_p50_ms, delay_max_ms: From header stamp to being received; None without a header.
        skew_p50_ms, skew_max_ms: Age, at the episode's ticks, of the newest sample: how old what the policy sees is.
    """

    key: str
    topic: str
    messages: int
    refused: int
    rate_hz: float
    longest_gap_s: float
    delay_p50_ms: float | None
    delay_max_ms: float | None
    skew_p50_ms: float | None
    skew_max_ms: float | None


@dataclass(frozen=True)
class EpisodeReport:
    """One bag that became one episode.

    Attributes:
        bag: The bag.
        episode_index: Number in the dataset.
        task: The instruction.
        frames: Rows written.
        begin_ns, end_ns: First and last tick.
        trimmed_begin, trimmed_end: Ticks left out at the ends, because something had no value yet or any more.
        late_ticks: Frames with a sample that was received later than a live node would have waited (`max_wait_s`).
        clock: ``header``: placed by stamps; ``receive``: by the time of receiving.
        clock_offset_s: Receive clock minus header clock, 0 when they are one.
        offsets_s: Topic → the least of its receive time minus header stamp.
        streams: By stream.
        late: Those frames.
        late_samples: Those samples, for a replay or a conversion that is to leave them out of the ticks they missed.
    """

    bag: str
    episode_index: int
    task: str
    frames: int
    begin_ns: int
    end_ns: int
    trimmed_begin: int
    trimmed_end: int
    late_ticks: int
    clock: str
    clock_offset_s: float
    offsets_s: dict[str, float]
    streams: tuple[StreamReport, ...]
    late: tuple[LateFrame, ...] = ()
    late_samples: tuple[LateSample, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A bag that did not become an episode, or a feature that did not become a column, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_bags` did.

    Attributes:
        root: The dataset.
        contract_hash: Of the contract.
        episodes: Converted bags.
        skipped: Bags not wanted: demonstrations that failed.
        refused: Bags that could not be converted, each with its sentence.
        left_out: Optional features that the dataset does not have.
        tasks: Instruction → name of the task that it stands for, where the recorder named one.
        notes: Sentences on what is odd about the bags: clocks that step, images that change size, recovered files.
    """

    root: Path
    contract_hash: str
    episodes: tuple[EpisodeReport, ...]
    skipped: tuple[LeftOut, ...] = ()
    refused: tuple[LeftOut, ...] = ()
    left_out: tuple[LeftOut, ...] = field(default=())
    notes: tuple[str, ...] = ()
    tasks: dict[str, str] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        """Rows of all episodes."""
        return sum(episode.frames for episode in self.episodes)

    def __str__(self) -> str:
        """Return what a person wants to know: how much, how good the streams were, and what is not in it."""
        lines = [f"{len(self.episodes)} episodes, {self.n_frames} frames, contract {self.contract_hash}"]
        lines += _stream_lines([stream for episode in self.episodes for stream in episode.streams])
        lines += _clock_lines(self.episodes)
        late = sum(episode.late_ticks for episode in self.episodes)
        if late:
            lines.append(
                f"{late} ticks had a sample that was received later than the contract's max_wait_s: a live node that "
                "is as slow as the recorder was will not see what these frames hold"
            )
        if self.skipped:
            lines.append(f"{len(self.skipped)} bags of failed demonstrations skipped")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"refused: {item.reason}" for item in self.refused]
        lines += [f"without '{item.name}': {item.reason}" for item in self.left_out]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        content = {**asdict(self), "root": str(self.root), "n_frames": self.n_frames}
        for own, episode in zip(content["episodes"], self.episodes, strict=True):
            own["late_samples"] = [late._asdict() for late in episode.late_samples]
        return content


def episode_from(content: dict[str, Any]) -> EpisodeReport:
    """Return the report of an episode from its plain data."""
    streams = tuple(StreamReport(**stream) for stream in content["streams"])
    late = tuple(LateFrame(**frame) for frame in content["late"])
    samples = tuple(LateSample(*sample) for sample in content["late_samples"])
    return EpisodeReport(**{**content, "streams": streams, "late": late, "late_samples": samples})


def stream_report(stream: StreamTimes, ticks_ns: NDArray[np.int64]) -> StreamReport:
    """Describe a stream over an episode's ticks."""
    stamps = stream.stamps_ns
    first = max(0, int(stream.before(ticks_ns[:1])[0]))
    within = stamps[first : int(stream.after(ticks_ns[-1:])[0]) + 1]
    before = stream.before(ticks_ns)
    ages_ns = (ticks_ns - stamps[before])[before >= 0]
    span_ns = int(stamps[-1] - stamps[0])
    return StreamReport(
        key=stream.source.key,
        topic=stream.source.topic,
        messages=len(stamps),
        refused=stream.refused,
        rate_hz=round((len(stamps) - 1) * NANOSECONDS / span_ns, 3) if span_ns else 0.0,
        longest_gap_s=round(float(np.diff(within).max()) / NANOSECONDS, 6) if len(within) > 1 else 0.0,
        delay_p50_ms=_milliseconds(stream.delays_ns, 50),
        delay_max_ms=_milliseconds(stream.delays_ns, 100),
        skew_p50_ms=_milliseconds(ages_ns, 50),
        skew_max_ms=_milliseconds(ages_ns, 100),
    )


def _stream_lines(streams: list[StreamReport]) -> list[str]:
    """Return a line per stream over all episodes: its usual rate, and the worst of everything else."""
    lines = []
    for key, topic in dict.fromkeys((stream.key, stream.topic) for stream in streams):
        own = [stream for stream in streams if (stream.key, stream.topic) == (key, topic)]
        delays = [stream.delay_max_ms for stream in own if stream.delay_max_ms is not None]
        skews = [stream.skew_max_ms for stream in own if stream.skew_max_ms is not None]
        refused, messages = sum(stream.refused for stream in own), sum(stream.messages for stream in own)
        lines.append(
            f"  {topic} ({key}): {np.median([stream.rate_hz for stream in own]):.1f} Hz, "
            f"gap ≤ {max(stream.longest_gap_s for stream in own):.3f} s, "
            f"delay ≤ {max(delays, default=0.0):.0f} ms, age at a tick ≤ {max(skews, default=0.0):.0f} ms"
            + (f", {refused} of {refused + messages} samples left out: stamps 0 or out of order" if refused else "")
        )
    return lines


def _clock_lines(episodes: Sequence[EpisodeReport]) -> list[str]:
    """Return which clock the episodes are on, where it is not simply the one of the stamps."""
    received = sum(episode.clock == "receive" for episode in episodes)
    offsets = [episode.clock_offset_s for episode in episodes if episode.clock_offset_s]
    lines = [f"aligned by the time of receiving: {received} episodes"] if received else []
    if offsets:
        span = f"{min(offsets):.3f} s" + (f" to {max(offsets):.3f} s" if max(offsets) > min(offsets) else "")
        lines.append(f"{len(offsets)} episodes were received {span} after their stamps; one clock, shifted by that")
    return lines


def _milliseconds(values_ns: NDArray[np.int64], percentile: float) -> float | None:
    return round(float(np.percentile(values_ns, percentile)) / 1e6, 3) if len(values_ns) else None
