"""Messages of a ROS 1 ``.bag`` file, as CDR: the same content in the wire format that the rest of the code reads."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag1 import Reader, ReaderError

from vla_ros.bags.compression import DamagedError
from vla_ros.bags.mcap_file import Order
from vla_ros.bags.message import BLOCK_SHIFT, Stored, StoredTopic
from vla_ros.data_types import DatasetError
from vla_ros.messages.message_types import store_for

MAGIC = b"#ROSBAG V"


class Ros1File:
    """One ROS 1 bag.

    Args:
        path: The file.
        recover: Refused where the file is damaged; ROS 1 has its own tool for that.

    Attributes:
        counts: Topic → messages met by the last complete `messages`.
        damage, cut: As `McapFile`; always empty.

    Raises:
        DamagedError: The file is damaged or not indexed.
    """

    def __init__(self, path: Path, recover: bool = False) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.damage: list[str] = []
        self.cut = False
        del recover
        self._reader = Reader(path)
        try:
            self._reader.open()
        except ReaderError as reason:
            fix = f"; repair it with ROS 1's `rosbag reindex {path.name}`" if "ndex" in str(reason) else ""
            raise DamagedError(f"{str(reason)[:200]}{fix}") from reason
        self._check_index()

    def close(self) -> None:
        """Close the file."""
        if self._reader.bio is not None:
            self._reader.close()

    def _check_index(self) -> None:
        declared: Counter[int] = Counter()
        for chunk in self._reader.chunk_infos:
            declared.update(chunk.connection_counts)
        for connection in self._reader.connections:
            if declared[connection.id] != connection.msgcount:
                raise DamagedError(
                    f"its chunks count {declared[connection.id]} messages on {connection.topic}, its index lists "
                    f"{connection.msgcount}; repair it with ROS 1's `rosbag reindex {self.path.name}`"
                )

    @property
    def topics(self) -> list[StoredTopic]:
        """What its connections carry; the definitions are those of the CDR bytes, without ROS 1's header numbers."""
        return [
            StoredTopic(
                c.topic,
                c.msgtype,
                c.msgdef._replace(format=MessageDefinitionFormat.MSG, data=_without_header_number(c.msgdef.data)),
                "cdr",
                c.msgcount,
            )
            for c in self._reader.connections
        ]

    def messages(self, wanted: Collection[str] | None, order: Order) -> Iterator[Stored]:
        """Yield messages in the order of their receive times, which is that of the file as well."""
        del order
        self.counts = Counter({c.topic: c.msgcount for c in self._reader.connections})
        chosen = [c for c in self._reader.connections if wanted is None or c.topic in wanted]
        if not chosen:
            return
        types = {topic.type: topic.definition for topic in self.topics}
        stores: dict[str, Any] = {}
        for number, (connection, receive_ns, raw) in enumerate(self._reader.messages(chosen)):
            kind = connection.msgtype
            if kind not in stores:
                stores[kind] = store_for(kind, types[kind])
            try:
                converted = bytes(stores[kind].ros1_to_cdr(raw, kind))
            except DatasetError:
                raise
            except Exception as reason:  # generated code meets damaged bytes in any way
                raise DamagedError(f"message {number} on {connection.topic} is no {kind}") from reason
            block, index = divmod(number, 1 << BLOCK_SHIFT)
            yield Stored(connection.topic, converted, receive_ns, block << BLOCK_SHIFT | index)


def _without_header_number(text: str) -> str:
    """Drop the field ``seq`` of std_msgs/Header, which the conversion to CDR drops too."""
    parts = text.split("=" * 80 + "\n")
    for index, part in enumerate(parts):
        if part.startswith("MSG: std_msgs/Header"):
            lines = part.split("\n")
            parts[index] = "\n".join(line for line in lines if line.split("#")[0].strip() != "uint32 seq")
    return ("=" * 80 + "\n").join(parts)
