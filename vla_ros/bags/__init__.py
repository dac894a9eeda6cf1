"""Bags read and written without ROS: rosbag2 folders, bare storage files, ROS 1 bags. No decoding of sensor data.

One opener (`Bag`) gives messages that look the same from every storage, and holds their numbers against every number
that the bag declares: a bag is read whole, or refused in a sentence, or recovered with a list of what is lacking.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from vla_ros.bags.bag import Bag
from vla_ros.bags.bag_writer import BagWriter
from vla_ros.bags.files import bags_in, is_bag
from vla_ros.bags.message import BagMessage
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.streams.stream import Deserialize

__all__ = [
    "Bag",
    "BagMessage",
    "BagWriter",
    "bag_deserializer",
    "bag_topics",
    "bags_in",
    "deserialize",
    "is_bag",
    "read_messages",
    "serialize",
    "typestore",
]


def read_messages(
    bag: str | Path, topics: Collection[str] | None = None, *, recover: bool = False
) -> Iterator[BagMessage]:
    """Yield a bag's messages in the order they were received.

    Args:
        bag: Folder of a rosbag2 bag, or its storage file. A folder without metadata.yaml is read too.
        topics: Only these, or None for all.
        recover: Read what is whole of a damaged or cut off bag instead of refusing it.

    Raises:
        DatasetError: No such bag, not readable, cut off (says how many messages precede the cut), other than it
            declares (says both numbers), or without one of the topics (names the nearest).
    """
    with Bag(bag, recover) as opened:
        yield from opened.messages(topics)


def bag_topics(bag: str | Path, *, recover: bool = False) -> dict[str, str]:
    """Return topic → ROS type of a bag; arguments and errors as `read_messages`."""
    with Bag(bag, recover) as opened:
        return dict(opened.topics)


def bag_deserializer(bag: str | Path) -> Deserialize:
    """Return the function that turns a bag's bytes into messages, by the definitions that the bag carries.

    A definition is parsed when a message of its type is first met. Errors as `read_messages`, and those of
    `Bag.deserialize`; of a damaged bag what is whole is used.
    """
    with Bag(bag, recover=True) as opened:
        return opened.deserialize
