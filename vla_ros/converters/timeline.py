"""When the messages of a bag came, coarsely: what the picture of a conversion shows. Numbers only."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.bags.clock import TopicTimes
from vla_ros.converters.scan import BagScan
from vla_ros.data_types import NANOSECONDS

BINS = 200


@dataclass(frozen=True)
class StreamLine:
    """One topic of a bag.

    Attributes:
        topic: ROS topic.
        counts: Messages in equal parts of the bag, int64 [at most `BINS`]; two and more in each in the mean.
        gaps_s: (begin, end) of silences longer than the contract allows, since the bag's first message.
        rate_hz: Of its messages in the mean.
        longest_gap_s: Between two of them.
        offset_s: The least of receive time minus header stamp, None without stamps.
    """

    topic: str
    counts: NDArray[np.int64]
    gaps_s: tuple[tuple[float, float], ...]
    rate_hz: float
    longest_gap_s: float
    offset_s: float | None


@dataclass
class BagLine:
    """One bag: its streams on the recorder's clock, and what became of it.

    Attributes:
        bag: The bag.
        length_s: From its first message to its last.
        streams: By topic.
        episodes_s: (begin, end) of what became episodes.
        steps_s: Where a clock steps.
        refused: Why it did not become an episode; empty when it did.
    """

    bag: str
    length_s: float = 0.0
    streams: tuple[StreamLine, ...] = ()
    episodes_s: list[tuple[float, float]] = field(default_factory=list)
    steps_s: list[float] = field(default_factory=list)
    refused: str = ""
    begin_ns: int = 0

    def add_episode(self, begin_ns: int, end_ns: int, offset_ns: int) -> None:
        """Note an episode by its first and last tick, and the clock offset of its segment."""
        begin_s, end_s = ((ns + offset_ns - self.begin_ns) / NANOSECONDS for ns in (begin_ns, end_ns))
        self.episodes_s.append((begin_s, end_s))


def bag_line(scan: BagScan) -> BagLine:
    """Return when the messages of a bag came; its episodes are added when they are written."""
    counted = [times for times in scan.times.values() if len(times.receive_ns)]
    if not counted:
        return BagLine(str(scan.bag))
    begin_ns = min(int(times.receive_ns.min()) for times in counted)
    length_ns = max(int(times.receive_ns.max()) for times in counted) - begin_ns
    ages_s = {source.topic: source.max_age_s for source in scan.sources}
    lines = tuple(_stream_line(times, begin_ns, length_ns, ages_s.get(times.topic, 0.0)) for times in counted)
    return BagLine(str(scan.bag), length_ns / NANOSECONDS, lines, begin_ns=begin_ns)


def note_steps(line: BagLine, scan: BagScan) -> None:
    """Note where the clocks of a bag step."""
    for segment in scan.segments[1:]:
        begins = [
            int(scan.times[topic].receive_ns[begin]) for topic, (begin, end) in segment.ranges.items() if end > begin
        ]
        if begins:
            line.steps_s.append((min(begins) - line.begin_ns) / NANOSECONDS)


def _stream_line(times: TopicTimes, begin_ns: int, length_ns: int, max_age_s: float) -> StreamLine:
    at_s = np.sort(times.receive_ns - begin_ns) / NANOSECONDS
    bins = max(1, min(BINS, len(at_s) // 2))
    counts, _ = np.histogram(at_s, bins, (0.0, max(length_ns / NANOSECONDS, 1e-9)))
    silent = np.diff(at_s)
    gaps = np.flatnonzero(silent > (max_age_s or np.inf))
    offset_s = None
    if times.header_ns is not None and times.header_ns.any():
        stamped = times.header_ns > 0
        offset_s = float((times.receive_ns - times.header_ns)[stamped].min()) / NANOSECONDS
    span_s = float(at_s[-1] - at_s[0])
    return StreamLine(
        times.topic,
        counts.astype(np.int64),
        tuple((float(at_s[i]), float(at_s[i + 1])) for i in gaps),
        (len(at_s) - 1) / span_s if span_s else 0.0,
        float(silent.max()) if len(silent) else 0.0,
        offset_s,
    )


def shown(lines: Sequence[BagLine], most: int) -> list[BagLine]:
    """Return the bags to draw: those that were refused or in which a clock steps first, in their order."""
    odd = [line for line in lines if line.refused or line.steps_s]
    return [*odd, *(line for line in lines if line not in odd)][:most]
