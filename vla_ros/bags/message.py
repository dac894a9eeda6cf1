"""What every storage gives: topics and messages. Knows no file format."""

from dataclasses import dataclass
from typing import NamedTuple

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")

FILE_SHIFT, BLOCK_SHIFT = 52, 26
"""An ordinal is file number, block number and number within the block, so that ordinals sort in the order written."""


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
