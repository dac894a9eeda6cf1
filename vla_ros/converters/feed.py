"""A bag's messages in the order of their samples' times, whatever the order in which they were recorded.

Between them stand the ticks, each at the place where nothing that follows can change its frame or action.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vla_ros.bags import Bag
from vla_ros.converters.scan import BagScan
from vla_ros.converters.timing import Int, StreamTimes
from vla_ros.data_types import DatasetError
from vla_ros.streams import LateSample, LateSamples

MAX_HELD_BYTES = 2 * 1024**3
"""Messages that wait for an earlier one that was recorded much later."""


class Sample(NamedTuple):
    """One sample for one stream.

    Attributes:
        rank: Its place in the order of all samples.
        stream: Number of the stream in the observation pipeline, -1 for the action.
        raw: CDR bytes.
        arrival_ns: When it was received, on the clock of the stamps.
        stamp_ns: When it was taken.
        topic: ROS topic.
        part: As `LateSample`.
    """

    rank: int
    stream: int
    raw: bytes
    arrival_ns: int
    stamp_ns: int
    topic: str
    part: str


def samples_and_ticks(
    scan: BagScan, streams: Sequence[StreamTimes], ticks_ns: Int, late: Iterable[LateSample], recover: bool
) -> Iterator[Sample | int]:
    """Yield what to push and which tick, by its number, to assemble next.

    Args:
        scan: The bag.
        streams: Its streams.
        ticks_ns: Stamps of the ticks, rising.
        late: Samples to be left out of the ticks that missed them.
        recover: Read what is whole of a damaged bag.

    Raises:
        DatasetError: As `samples_in_order`.
    """
    ranks = ranks_of(streams)
    settled = _settled(streams, ranks, ticks_ns)
    held: LateSamples[Sample] = LateSamples(late)
    position = 0
    for sample in samples_in_order(scan, streams, ranks, recover):
        while position < len(settled) and settled[position] < sample.rank:
            yield from held.due(int(ticks_ns[position]))
            yield position
            position += 1
        at_ns = int(ticks_ns[position]) if position < len(settled) else sample.stamp_ns
        if sample.stream < 0 or not held.keeps_back(sample.topic, sample.part, sample.stamp_ns, at_ns, sample):
            yield sample
    for rest in range(position, len(settled)):
        yield from held.due(int(ticks_ns[rest]))
        yield rest


def _settled(streams: Sequence[StreamTimes], ranks: Sequence[Int], ticks_ns: Int) -> Int:
    """Return, for every tick, the place of the last sample that its frame or action may need."""
    settled = np.full(len(ticks_ns), -1, np.int64)
    for stream, own in zip(streams, ranks, strict=True):
        padded = np.append(own, np.int64(-1))
        settled = np.maximum(settled, padded[stream.last_needed(ticks_ns)])
    return np.maximum.accumulate(settled) if len(settled) else settled


def ranks_of(streams: Sequence[StreamTimes]) -> list[Int]:
    """Return every sample's place among the samples of all streams, by time; of one time, in the streams' order."""
    stamps = np.concatenate([stream.stamps_ns for stream in streams])
    order = np.argsort(stamps, kind="stable")
    ranks = np.empty(len(stamps), np.int64)
    ranks[order] = np.arange(len(stamps))
    return np.split(ranks, np.cumsum([len(stream.stamps_ns) for stream in streams])[:-1])


def samples_in_order(
    scan: BagScan, streams: Sequence[StreamTimes], ranks: Sequence[Int], recover: bool
) -> Iterator[Sample]:
    """Yield the samples of a segment's streams by their times.

    Raises:
        DatasetError: The bag cannot be read again, or streams are recorded too far apart to be held in memory.
    """
    by_topic: dict[str, list[tuple[StreamTimes, Int]]] = {}
    for stream, own in zip(streams, ranks, strict=True):
        by_topic.setdefault(stream.source.topic, []).append((stream, own))
    seen = dict.fromkeys(by_topic, 0)
    places = {id(stream): {int(n): place for place, n in enumerate(stream.taken)} for stream in streams}
    waiting: list[Sample] = []
    due, held = 0, 0
    with Bag(scan.bag, recover) as bag:
        for message in bag.messages(by_topic, scan.order):
            number = seen[message.topic]
            seen[message.topic] = number + 1
            for stream, own in by_topic[message.topic]:
                place = places[id(stream)].pop(number, None)
                if place is not None:
                    heapq.heappush(waiting, _sample(stream, place, int(own[place]), message.raw))
                    held += len(message.raw)
            while waiting and waiting[0].rank == due:
                sample = heapq.heappop(waiting)
                held -= len(sample.raw)
                due += 1
                yield sample
            if held > MAX_HELD_BYTES:
                raise DatasetError(
                    f"{scan.bag}: messages of one time are recorded so far apart that {held // 1024**2} MB wait for "
                    "those before them; align by the time of receiving with --clock receive."
                )
    if waiting:
        raise RuntimeError(f"{scan.bag}: {len(waiting)} samples are left over")


def _sample(stream: StreamTimes, place: int, rank: int, raw: bytes) -> Sample:
    source, part = stream.source, stream.parts[stream.lanes[place]]
    arrival_ns, stamp_ns = int(stream.arrivals_ns[place]), int(stream.stamps_ns[place])
    return Sample(rank, source.index, raw, arrival_ns, stamp_ns, source.topic, part)
