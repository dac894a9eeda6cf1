"""A stretch of a bag → the frames and actions of an episode, by the node's own pipeline.

Samples are pushed in the order of their stamps, so a sample that was recorded late is at its place all the same. A
live node decides when the contract's `max_wait_s` has passed, at the latest, and then goes on without it: on ticks
without such samples a frame here equals the observation there, bit for bit, and the others are listed (`late`), since a
robot whose samples are as late as its recorder's will see something else than it was trained on. Given the list of the
late samples, they are left out of the ticks that missed them, and all frames are equal.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.bags import Bag
from vla_ros.bags.clock import ClockMode, ClockSegment
from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.converters.feed import Sample, samples_and_ticks
from vla_ros.converters.scan import BagScan, clock_limit_ns, sources_of
from vla_ros.converters.timing import Int, StreamTimes, stream_times
from vla_ros.data_types import NANOSECONDS, DatasetError, DecodeError, Frame, first_tick_at_or_after, tick_ns
from vla_ros.streams import ActionStream, Assembled, LateSample, ObservationPipeline

Row = dict[str, NDArray[Any]]
"""Feature key → value of one frame."""
MAX_TICKS = 20_000_000
"""Of a stretch; more are days, and come from a wrong stamp."""


@dataclass(frozen=True)
class LateFrame:
    """A frame that a live node would have assembled before one of its samples came.

    Attributes:
        frame: Its number in the episode.
        topic: ROS topic.
        late_s: From the tick to the sample's arrival.
    """

    frame: int
    topic: str
    late_s: float


@dataclass
class EpisodePart:
    """Frames of one instruction, without a hole.

    Attributes:
        task: The instruction.
        ticks: Index of each frame given so far.
    """

    task: str
    ticks: list[int] = field(default_factory=list)


def needed_ticks(needed: Sequence[StreamTimes], fps: int, place: str) -> Int:
    """Return the indices of the ticks at which every needed stream can have a value, from the first to the last.

    Raises:
        DatasetError: There is none, or the stretch is longer than any motion.
    """
    begin_ns = max(int(s.stamps_ns[0]) - s.max_age_ns for s in needed)
    end_ns = min(int(s.stamps_ns[-1]) + s.max_age_ns for s in needed)
    first, last = first_tick_at_or_after(max(0, begin_ns), fps), first_tick_at_or_after(end_ns + 1, fps)
    if last - first > MAX_TICKS:
        span_s = (end_ns - begin_ns) / NANOSECONDS
        raise DatasetError(f"{place}: its stamps span {span_s:.0f} s; some of them are wrong.")
    return np.arange(first, max(first, last), dtype=np.int64)


def ticks_ns(ticks: Int, fps: int) -> Int:
    """Return the stamps of ticks, exactly as `tick_ns` has them."""
    seconds, rest = np.divmod(ticks, fps)
    return np.asarray(seconds * NANOSECONDS + rest * NANOSECONDS // fps, np.int64)


class SegmentReader:
    """Reads the frames of one segment of a bag.

    Args:
        scan: What a first pass over the bag found.
        segment: The stretch to read.
        contract: The robot.
        features: What every frame must hold; only a point cloud that is not required may be silent, and is then NaN.
        clock: By which the bag was scanned.
        recover: Read what is whole of a damaged bag.
        left_out: Samples that are left out of the ticks that missed them.

    Attributes:
        streams: Its samples, stream by stream.
        trimmed_begin: Ticks left out before the first frame, because something had no value yet.
        trimmed_end: Ticks left out after the last, because something had none any more.

    Raises:
        DatasetError: A needed stream has no sample in the segment.
    """

    def __init__(
        self,
        scan: BagScan,
        segment: ClockSegment,
        contract: RobotContract,
        features: Mapping[str, FeatureSpec],
        *,
        clock: ClockMode = "auto",
        recover: bool = False,
        left_out: Iterable[LateSample] = (),
    ) -> None:
        self.scan, self.segment, self.contract, self.features = scan, segment, contract, features
        self._recover, self._left_out = recover, left_out
        self.streams = [s for s in stream_times(scan, segment, clock, contract) if s.source.key in features]
        needed = self._needed_streams()
        self._ticks = needed_ticks(needed, contract.fps, str(scan.bag))
        self._ticks_ns = ticks_ns(self._ticks, contract.fps)
        self._runs_with = contract_of_run(contract, clock)
        self._last_ns = max(int(stream.stamps_ns[-1]) for stream in needed)
        self.trimmed_begin = self.trimmed_end = 0
        self._hole, self._hole_length = "", 0
        self._at_begin = ""
        self._damaged: dict[str, int] = {}
        self._frames = 0
        self._problems: dict[str, list[str]] = {}

    def _needed_streams(self) -> list[StreamTimes]:
        there = {(stream.source.index, stream.source.topic): stream for stream in self.streams}
        needed = []
        for source in self.scan.sources:
            if source.index >= 0 and not self._is_needed(source.key):
                continue
            stream = there.get((source.index, source.topic))
            if stream is None:
                raise DatasetError(f"{self.scan.bag}: '{source.key}' has no sample on {source.topic} in this stretch.")
            needed.append(stream)
        return needed

    def parts(self, tasks: Sequence[tuple[int, str]]) -> Iterator[tuple[EpisodePart, Iterator[Row]]]:
        """Yield a part for every instruction, with its frames; they must be taken before the next part is.

        Args:
            tasks: (stamp in ns, instruction) from which each holds, in order; the first holds from the beginning.

        Raises:
            DatasetError: A stream has a hole in the middle; says which, when and how long. Also as `Bag.messages`.
        """
        begins = np.array([ns for ns, _ in tasks[1:]], np.int64)

        def task_of(row: tuple[int, Row]) -> int:
            return int(np.searchsorted(begins, tick_ns(row[0], self.contract.fps), "right"))

        for number, rows in itertools.groupby(self._rows(), task_of):
            part = EpisodePart(tasks[number][1])
            yield part, self._noted(part, rows)

    def _noted(self, part: EpisodePart, rows: Iterator[tuple[int, Row]]) -> Iterator[Row]:
        for tick, row in rows:
            part.ticks.append(tick)
            yield row

    def late_frames(self, part: EpisodePart) -> list[LateFrame]:
        """Return which frames of a part have a sample that came after the contract's `max_wait_s`."""
        at_ns = ticks_ns(np.array(part.ticks, np.int64), self.contract.fps)
        limit_ns = round(self.contract.max_wait_s * NANOSECONDS)
        found = []
        for stream in self._inputs():
            late_ns = stream.lateness_ns(at_ns)
            found += [
                LateFrame(int(i), stream.source.topic, round(float(late_ns[i]) / NANOSECONDS, 6))
                for i in np.flatnonzero(late_ns > limit_ns)
            ]
        return sorted(found, key=lambda late: (late.frame, late.topic))

    def late_samples(self, part: EpisodePart) -> list[LateSample]:
        """Return those samples, each with the newest tick of the part that a node assembles without it."""
        begin_ns, end_ns = (tick_ns(part.ticks[end], self.contract.fps) for end in (0, -1))
        limit_ns = round(self.contract.max_wait_s * NANOSECONDS)
        return [
            late for stream in self._inputs() for late in stream.late(self.contract.fps, limit_ns, begin_ns, end_ns)
        ]

    def _inputs(self) -> list[StreamTimes]:
        return [s.of_relevant() for s in self.streams if s.source.index >= 0 and s.source.key in self.features]

    def trimmed_notes(self) -> list[str]:
        """Say what was left out at the ends where that is more than it takes for all streams to begin and end."""
        ends = (("begin", self.trimmed_begin, self._at_begin), ("end", self.trimmed_end, self._hole))
        notes = [
            f"{self.scan.bag}: {count} ticks at the {where} are left out, {count + self._frames} there are: {why}"
            for where, count, why in ends
            if why and count > max(self.contract.fps, self._frames // 10)
        ]
        return notes + [
            f"{self.scan.bag}: {count} messages on {topic} do not hold what the contract says"
            for topic, count in self._damaged.items()
        ]

    def _count_damaged(self, pipeline: ObservationPipeline, actions: ActionStream) -> None:
        for status in (*pipeline.stream_status(0), actions.status(0)):
            if status.decode_errors and (status.key in self.features):
                self._damaged[status.topic] = status.decode_errors

    def _rows(self) -> Iterator[tuple[int, Row]]:
        """Yield (tick, frame), in order and without a hole."""
        last: int | None = None
        first: int | None = None
        for assembled, tick, action in self._resolved():
            problem = self._problem(assembled, action)
            if problem or assembled.frame is None:
                self._count_missing(tick, problem, begun=last is not None)
                continue
            if self._hole and last is not None and first is not None:
                raise self._hole_error(first, last, tick)
            self._hole, self._hole_length = "", 0
            self._frames += 1
            first, last = tick if first is None else first, tick
            yield tick, self._row(assembled.frame, action)
        if last is None:
            raise self._nothing_error()
        self.trimmed_end = max(0, first_tick_at_or_after(self._last_ns + 1, self.contract.fps) - 1 - last)

    def _resolved(self) -> Iterator[tuple[Assembled, int, NDArray[np.float64] | str]]:
        """Yield every tick with its frame, and its action or what is wrong with it."""
        pipeline = ObservationPipeline(self._runs_with, self.scan.deserialize)
        actions = ActionStream(self._runs_with, self.scan.deserialize)
        self._push_static(pipeline)
        for item in samples_and_ticks(self.scan, self.streams, self._ticks_ns, self._left_out, self._recover):
            if isinstance(item, Sample):
                _push(item, pipeline, actions)
            else:
                yield self._tick(item, pipeline, actions)
        self._count_damaged(pipeline, actions)

    def _push_static(self, pipeline: ObservationPipeline) -> None:
        """Give the pipeline what never changes; it was sent once, maybe in another stretch of the bag."""
        static = {s.topic: i for i, s in enumerate(pipeline.specs) if s.is_static and s.topic in self.scan.topics}
        if static:
            with Bag(self.scan.bag, self._recover) as bag:
                for message in bag.messages(static, self.scan.order):
                    for index, spec in enumerate(pipeline.specs):
                        if spec.is_static and spec.topic == message.topic:
                            pipeline.push(index, message.raw, message.receive_ns)

    def _tick(
        self, position: int, pipeline: ObservationPipeline, actions: ActionStream
    ) -> tuple[Assembled, int, NDArray[np.float64] | str]:
        at_ns, records = int(self._ticks_ns[position]), self.contract.action.records
        assembled = pipeline.assemble(at_ns)
        action: NDArray[np.float64] | str | None
        try:
            action = actions.value_at(at_ns)
        except DecodeError as reason:
            action = f"'action': {reason}"
        if action is None:
            limits = " and ".join(f"{record.topic} within {record.max_age_s:g} s" for record in records)
            action = f"'action': no command on {limits}"
        elif not isinstance(action, str) and not self._command_follows(at_ns):
            topics = " and ".join(record.topic for record in records)
            action = f"'action': the bag ends before a command for it on {topics}"
        return assembled, int(self._ticks[position]), action

    def _command_follows(self, at_ns: int) -> bool:
        """Whether a command at or after a tick shows that the demonstration went on."""
        at = np.array([at_ns], np.int64)
        return any(int(s.stamps_ns[-1]) >= s.due_ns(at)[0] for s in self.streams if s.source.index < 0)

    def _is_needed(self, key: str) -> bool:
        spec = self.features.get(key)
        return spec is not None and (spec.kind != "points" or is_required(self.contract, key))

    def _problem(self, assembled: Assembled, action: NDArray[np.float64] | str) -> str:
        """Say what keeps a tick from being a frame; empty when nothing does."""
        for missing in assembled.missing:
            if missing.needed or self._is_needed(missing.key):
                return str(missing)
        return action if isinstance(action, str) else ""

    def _count_missing(self, tick: int, problem: str, *, begun: bool) -> None:
        if not begun:
            self.trimmed_begin += 1
            self._at_begin = problem
        self._hole = self._hole or f"from {tick_ns(tick, self.contract.fps) / NANOSECONDS:.3f} s: {problem}"
        self._hole_length += 1
        self._problems.setdefault(problem.partition(":")[0], []).append(problem)

    def _hole_error(self, first: int, last: int, tick: int) -> DatasetError:
        fps = self.contract.fps
        gap_s = (tick_ns(tick, fps) - tick_ns(last, fps)) / NANOSECONDS
        into_s = (tick_ns(last, fps) - tick_ns(first, fps)) / NANOSECONDS
        return DatasetError(
            f"{self.scan.bag}: a hole of {gap_s:.3f} s, {into_s:.3f} s into the episode, {self._hole}; "
            "record the episode again, or split the bag there."
        )

    def _nothing_error(self) -> DatasetError:
        """Name what was missing at most ticks: at the first ones everything is, and that explains nothing."""
        most = max(self._problems.values(), key=len, default=["the bag is shorter than a tick"])
        return DatasetError(f"{self.scan.bag}: no tick at which everything has a value; {most[-1]}.")

    def _row(self, frame: Frame, action: NDArray[np.float64] | str) -> Row:
        row: Row = {}
        for key, spec in self.features.items():
            if key == self.contract.action.key:
                with np.errstate(over="ignore"):  # the writer refuses what becomes infinite
                    row[key] = np.asarray(action, np.float32)
            elif key in frame.values:
                row[key] = np.asarray(frame.values[key])
            else:  # an optional cloud that was silent: no point, said in the one way the format has
                row[key] = np.full(spec.shape, np.nan, np.float32)
        return row


def is_required(contract: RobotContract, key: str) -> bool:
    """Whether a tick without a feature is no frame."""
    return any(spec.required for spec in contract.inputs if spec.key == key)


def contract_of_run(contract: RobotContract, clock: ClockMode) -> RobotContract:
    """Return the contract that pipeline and actions run with.

    Streams keep their samples for as long as any tick waits for another stream's, and are placed by the time of
    receiving where that was chosen; neither changes what a value is made of.
    """
    ages_s = [source.max_age_s for source in sources_of(contract) if source.interpolates]
    wait_s = max([contract.max_wait_s, clock_limit_ns(contract) / NANOSECONDS, *ages_s])
    inputs, records = contract.inputs, contract.action.records
    if any(record.next_state for record in records):
        wait_s += 1.0 / contract.fps  # a tick waits for the state at the next one
    if clock == "receive":
        inputs = tuple(replace(s, alignment=replace(s.alignment, timeline="receive")) for s in inputs)
        records = tuple(replace(r, alignment=replace(r.alignment, timeline="receive")) for r in records)
    action = replace(contract.action, record=records[0], also_recorded=records[1:])
    return replace(contract, max_wait_s=wait_s, inputs=inputs, action=action)


def _push(sample: Sample, pipeline: ObservationPipeline, actions: ActionStream) -> None:
    if sample.stream < 0:
        actions.push(sample.raw, sample.arrival_ns, -1 - sample.stream)
    else:
        pipeline.push(sample.stream, sample.raw, sample.arrival_ns)
