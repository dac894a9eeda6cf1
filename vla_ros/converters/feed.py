"""A bag's messages in the order of their samples' times, whatever the order in which they were recorded."""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vla_ros.bags import Bag
from vla_ros.converters.scan import BagScan
from vla_ros.converters.timing import Int, StreamTimes
from vla_ros.data_types import DatasetError

MAX_HELD_BYTES = 2 * 1024**3
"""Messages that wait for an earlier one that was recorded much later."""


class Sample(NamedTuple):
    """One sample for one stream.

    Attributes:
        rank: Its place in the order of all samples.
        stream: Number of the stream in the observation pipeline, -1 for the action.
        raw: CDR bytes.
        arrival_ns: When it was received, on the clock of the stamps.
    """

    rank: int
    stream: int
    raw: bytes
    arrival_ns: int


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
                    arrival_ns = int(stream.arrivals_ns[place])
                    heapq.heappush(waiting, Sample(int(own[place]), stream.source.index, message.raw, arrival_ns))
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
