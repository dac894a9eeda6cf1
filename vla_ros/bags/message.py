"""What every storage gives: topics and messages. Knows no file format."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")

FILE_SHIFT, BLOCK_SHIFT = 52, 26
"""An ordinal is file number, block number and number within the block, so that ordinals sort in the order written."""

_RENAMED = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}
"""Types of ROS 1 that ROS 2 has, field by field, under another name."""


def full_topic(name: str) -> str:
    """Return a topic's full name: ROS 1 and programs that write bags without a node store ``odom`` for ``/odom``."""
    return name if name.startswith("/") else f"/{name}"


def full_type(name: str) -> str:
    """Return a type's full name: the first releases of ROS 2 and some writers store ``sensor_msgs/Image``."""
    if name.count("/") == 1:
        name = name.replace("/", "/msg/")
    return _RENAMED.get(name, name)


class BagMessage(NamedTuple):
    """One message of a bag.

    Attributes:
        topic: ROS topic.
        type: ROS type, ``pkg/msg/Type``.
        raw: CDR bytes.
        receive_ns: When the recorder received it, ns of its node clock.
        ordinal: Where it stands in the bag; rises in the order in which the messages were written.
    """

    topic: str
    type: str
    raw: bytes
    receive_ns: int
    ordinal: int = 0


class Stored(NamedTuple):
    """One message of a storage file: topic's name, bytes as stored, receive time in ns, place in the file."""

    topic: str
    raw: bytes
    receive_ns: int
    ordinal: int


@dataclass
class StoredTopic:
    """One topic of a storage file.

    Attributes:
        name: ROS topic.
        type: ROS type.
        definition: As the file carries it; format NONE where it carries none.
        encoding: Of its messages; only ``cdr`` is read.
        declared: How many messages the file says it holds, None where it does not say.
    """

    name: str
    type: str
    definition: MessageDefinition = NO_DEFINITION
    encoding: str = "cdr"
    declared: int | None = None


def in_time_order(starts_ns: Sequence[int], read: Callable[[int], Iterable[Stored]]) -> Iterator[Stored]:
    """Yield the messages of a file's blocks by their receive times, holding no more of them than overlap.

    Args:
        starts_ns: The first receive time of each block.
        read: Number of a block → its messages, none earlier than its start.
    """
    waiting: list[tuple[int, int, Stored]] = []
    for number in sorted(range(len(starts_ns)), key=lambda number: starts_ns[number]):
        while waiting and waiting[0][0] < starts_ns[number]:
            yield heapq.heappop(waiting)[2]
        for message in read(number):
            heapq.heappush(waiting, (message.receive_ns, message.ordinal, message))
    while waiting:
        yield heapq.heappop(waiting)[2]
