"""When every sample of a stretch of a bag was taken and arrived: which ticks have a value, and which had it late.

All of it follows from stamps, before any message is decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.bags.clock import ClockMode, ClockSegment
from vla_ros.contract import RobotContract
from vla_ros.converters.scan import BagScan, Source
from vla_ros.data_types import NANOSECONDS, first_tick_at_or_after, tick_ns
from vla_ros.streams import LateSample

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class StreamTimes:
    """The samples of one stream within a segment.

    Attributes:
        source: The stream.
        taken: Which of the topic's messages are samples, by their number within the topic, int64 [M].
        stamps_ns: When they were taken, int64 [M]: rising, strictly among those of one driver.
        arrivals_ns: When they were received, on the clock of the stamps, int64 [M].
        delays_ns: Arrival minus header stamp of all messages that have one.
        refused: Messages without a usable stamp, or with one that is not after its driver's one before.
        lanes: By which driver each sample is, int64 [M].
        parts: Of each driver's lane, its first joint or child frame.
        relevant: Lanes that carry what the contract names; empty for all.
    """

    source: Source
    taken: Int
    stamps_ns: Int
    arrivals_ns: Int
    delays_ns: Int
    refused: int
    lanes: Int
    parts: Sequence[str] = ("",)
    relevant: Sequence[int] = ()

    def of_relevant(self) -> "StreamTimes":
        """Return the samples of those lanes."""
        if not self.relevant:
            return self
        own = np.isin(self.lanes, self.relevant)
        arrays = {name: getattr(self, name)[own] for name in ("taken", "stamps_ns", "arrivals_ns", "lanes")}
        return replace(self, **arrays)

    @property
    def max_age_ns(self) -> int:
        """The contract's limit."""
        return round(self.source.max_age_s * NANOSECONDS)

    def due_ns(self, ticks_ns: Int) -> Int:
        """When the value of each tick is taken: at the tick, of a next state at the tick after it."""
        fps = self.source.next_state_fps
        if not fps:
            return ticks_ns
        return np.array([tick_ns(first_tick_at_or_after(int(at), fps) + 1, fps) for at in ticks_ns], np.int64)

    def before(self, ticks_ns: Int) -> Int:
        """Number of the newest sample that is not after each tick, -1 where there is none."""
        return np.asarray(np.searchsorted(self.stamps_ns, ticks_ns, "right") - 1, np.int64)

    def after(self, ticks_ns: Int) -> Int:
        """Number of the oldest sample that is not before each tick, M where there is none."""
        return np.asarray(np.searchsorted(self.stamps_ns, ticks_ns, "left"), np.int64)

    def last_needed(self, ticks_ns: Int) -> Int:
        """Number of the last sample that the value at each tick may be made of, -1 where there is none."""
        ticks_ns = self.due_ns(ticks_ns)
        needed = self.before(ticks_ns)
        if not self.source.interpolates:
            return needed
        for lane in np.unique(self.lanes):
            numbers = np.flatnonzero(self.lanes == lane)
            after = np.searchsorted(self.stamps_ns[numbers], ticks_ns, "left")
            stamps_ns = np.append(self.stamps_ns[numbers], np.int64(np.iinfo(np.int64).max // 2))
            near = stamps_ns[after] - ticks_ns <= self.max_age_ns
            needed = np.maximum(needed, np.where(near, np.append(numbers, -1)[after], -1))
        return np.asarray(needed, np.int64)

    def available(self, ticks_ns: Int) -> Bool:
        """Whether the stream has a value at each tick, as far as stamps can tell."""
        if self.source.window is None:
            return self._has_value(self.due_ns(ticks_ns))
        period_ns = round(self.source.window.period_s * NANOSECONDS)
        has = np.ones(len(ticks_ns), bool)
        for k in range(self.source.window.samples):
            has &= self._has_value(ticks_ns - k * period_ns)
        return has

    def _has_value(self, at_ns: Int) -> Bool:
        before, after = self.before(at_ns), self.after(at_ns)
        padded = np.append(self.stamps_ns, np.int64(0))
        old = (before >= 0) & (at_ns - padded[before] <= self.max_age_ns)
        if not self.source.interpolates:
            return np.asarray(old, bool)
        new = (after < len(self.stamps_ns)) & (padded[after] - at_ns <= self.max_age_ns)
        either = self.source.alignment.method == "nearest" and self.source.window is None
        return np.asarray(old | new if either else old & new, bool)

    def lateness_ns(self, ticks_ns: Int) -> Int:
        """How long after each tick the last sample arrived that its value is made of."""
        before = self.before(ticks_ns)
        padded = np.append(self.arrivals_ns, np.int64(np.iinfo(np.int64).min // 2))
        latest = padded[before]
        if self.source.interpolates:
            after = self.after(ticks_ns)
            near = np.append(self.stamps_ns, np.int64(np.iinfo(np.int64).max // 2))[after] - ticks_ns <= self.max_age_ns
            latest = np.maximum(latest, np.where(near, padded[np.minimum(after, len(self.arrivals_ns))], latest))
        return np.asarray(latest - ticks_ns, np.int64)

    def late(self, fps: int, max_wait_ns: int, begin_ns: int, end_ns: int) -> list[LateSample]:
        """Return the samples that a node which waits for `max_wait_ns` assembles ticks of an episode without.

        Args:
            fps: Ticks per second.
            max_wait_ns: How long after a tick a node waits, ns.
            begin_ns: First tick, ns.
            end_ns: Last tick, ns.
        """
        seconds, rest = np.divmod(self.arrivals_ns - max_wait_ns, NANOSECONDS)
        newest = seconds * fps + (rest * fps - 1) // NANOSECONDS  # the last tick whose time is up before it comes
        seconds, rest = np.divmod(newest, fps)
        missed_ns = np.minimum(seconds * NANOSECONDS + rest * NANOSECONDS // fps, end_ns)
        is_late = self.stamps_ns <= missed_ns
        if self.source.interpolates:
            before_ns = self._before_in_lane()
            near = self.stamps_ns - missed_ns <= self.max_age_ns
            is_late |= (before_ns >= 0) & (before_ns < missed_ns) & near
        found = np.flatnonzero(is_late & (missed_ns >= begin_ns))
        topic = self.source.topic
        return [LateSample(topic, self.parts[self.lanes[i]], int(self.stamps_ns[i]), int(missed_ns[i])) for i in found]

    def _before_in_lane(self) -> Int:
        """Return the stamp of the sample before each of the same driver, -1 without one."""
        before_ns = np.full(len(self.stamps_ns), -1, np.int64)
        for lane in np.unique(self.lanes):
            numbers = np.flatnonzero(self.lanes == lane)
            before_ns[numbers[1:]] = self.stamps_ns[numbers[:-1]]
        return before_ns


def stream_times(scan: BagScan, segment: ClockSegment, clock: ClockMode, contract: RobotContract) -> list[StreamTimes]:
    """Return the samples of every stream that has some in a segment."""
    limit_ns = round(NANOSECONDS / contract.fps)
    streams = [_stream(scan, segment, source, clock, limit_ns) for source in scan.sources]
    return [stream for stream in streams if len(stream.stamps_ns)]


def _stream(scan: BagScan, segment: ClockSegment, source: Source, clock: ClockMode, limit_ns: int) -> StreamTimes:
    times = scan.times[source.topic]
    begin, end = segment.ranges[source.topic]
    arrivals = times.receive_ns[begin:end] - segment.offset_ns
    header = None if times.header_ns is None else times.header_ns[begin:end]
    by_header = source.by_header and clock != "receive" and header is not None
    stamps = header if by_header and header is not None else arrivals
    usable = stamps != 0 if by_header else np.ones(len(stamps), bool)
    usable &= ~_leaps(stamps, limit_ns)
    lanes = scan.lanes[source.topic][begin:end]
    for lane in np.unique(lanes):  # whatever a driver sends is in order of its own
        own = lanes == lane
        usable[own] &= _rising(stamps[own], usable[own])
    taken = np.flatnonzero(usable)
    taken = taken[np.argsort(stamps[taken], kind="stable")]
    delays = np.zeros(0, np.int64) if header is None else (arrivals - header)[header != 0]
    refused = int(len(stamps) - len(taken))
    return StreamTimes(
        source,
        taken + begin,
        stamps[taken],
        arrivals[taken],
        delays,
        refused,
        lanes[taken],
        tuple(scan.parts),
        tuple(scan.relevant.get(source.topic, ())),
    )


def _rising(stamps: Int, usable: Bool) -> Bool:
    """Mark stamps that are after all usable ones before them."""
    newest = np.maximum.accumulate(np.where(usable, stamps, np.iinfo(np.int64).min))
    return np.asarray(np.concatenate([[True], stamps[1:] > newest[:-1]])[: len(stamps)], bool)


def _leaps(stamps: Int, limit_ns: int) -> Bool:
    """Mark single stamps that lie far ahead of the two after them: one bad stamp would refuse all that follow."""
    marked = np.zeros(len(stamps), bool)
    if len(stamps) > 2:
        ahead = (stamps[:-2] - stamps[1:-1] > limit_ns) & (stamps[:-2] - stamps[2:] > limit_ns)
        marked[:-2] = ahead
    return marked
