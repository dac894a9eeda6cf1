"""Messages of a ROS 1 ``.bag`` file, as CDR: the same content in the wire format that the rest of the code reads."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from vla_ros.bags.compression import DamagedError, unpack
from vla_ros.bags.mcap_file import Order
from vla_ros.bags.message import BLOCK_SHIFT, Stored, StoredTopic, full_type, in_time_order
from vla_ros.bags.ros1_layout import (
    CONNECTION,
    MESSAGE,
    Entry,
    Ros1Chunk,
    Ros1Connection,
    Ros1LayoutReader,
    add_connection,
    connection_of,
    number,
    records,
    time_ns,
)
from vla_ros.data_types import DatasetError
from vla_ros.messages.message_types import store_for

Found = list[tuple[int, int, bytes]]
"""(connection, receive time in ns, ROS 1 bytes) of a chunk's messages."""


class Ros1File:
    """One ROS 1 bag.

    Args:
        path: The file.
        recover: Take what is whole of a damaged or cut off file, or of one that was never closed.

    Attributes:
        counts: Topic → messages met by the last complete `messages`, the unwanted ones too.
        damage: What is wrong with the file; only ever filled with `recover`.
        cut: Whether the file ends before its index.

    Raises:
        DamagedError: The file contradicts itself.
    """

    def __init__(self, path: Path, recover: bool = False) -> None:
        self.path, self._recover = path, recover
        layout = Ros1LayoutReader(path, recover).read()
        self.cut, self.damage = layout.cut, layout.damage
        self.counts: Counter[str] = Counter()
        self._chunks, self._connections = layout.chunks, layout.connections
        self._stores: dict[int, Any] = {}
        if self.damage and not recover:
            fix = f"; repair it with ROS 1's `rosbag reindex {path.name}`" if "index" in self.damage[0] else ""
            raise DamagedError(f"{self.damage[0]}{fix}")
        if self.damage:
            self._learn()

    @property
    def topics(self) -> list[StoredTopic]:
        """What its connections carry; the definitions are those of the CDR bytes, without ROS 1's header numbers."""
        counts: Counter[int] = Counter()
        for chunk in self._chunks:
            counts.update(chunk.counts or {})
        return [
            StoredTopic(c.topic, full_type(c.type), _definition(c), "cdr", None if self.damage else counts[key])
            for key, c in self._connections.items()
        ]

    def messages(self, wanted: Collection[str] | None, order: Order) -> Iterator[Stored]:
        """Yield messages, in the order of the file or of their receive times; see `McapFile`.

        Raises:
            DamagedError: A chunk or a message is damaged, or there are more or fewer messages than the index lists.
        """
        self.counts = Counter()
        with self.path.open("rb") as file:
            if order == "file":
                for place in range(len(self._chunks)):
                    yield from self._chosen(file, place, wanted)
            else:
                starts = [chunk.start_ns or 0 for chunk in self._chunks]
                yield from in_time_order(starts, lambda place: self._chosen(file, place, wanted))

    def _chosen(self, file: BinaryIO, place: int, wanted: Collection[str] | None) -> Iterator[Stored]:
        """Yield the wanted messages of one chunk; all of them are counted."""
        try:
            found = self._chunk(file, self._chunks[place])
        except DamagedError as reason:
            if not self._recover:
                raise
            self._note(str(reason))
            return
        for index, (key, receive_ns, raw) in enumerate(found):
            topic = self._connections[key].topic
            self.counts[topic] += 1
            if wanted is None or topic in wanted:
                converted = self._as_cdr(key, raw, index)
                if converted is not None:
                    yield Stored(topic, converted, receive_ns, place << BLOCK_SHIFT | index)

    def _chunk(self, file: BinaryIO, chunk: Ros1Chunk) -> Found:
        """Return a chunk's messages; its connections are noted.

        Raises:
            DamagedError: Anything in it contradicts anything else.
        """
        place = f"the chunk at byte {chunk.position}"
        file.seek(chunk.offset)
        try:
            plain = unpack(file.read(chunk.length), chunk.compression, chunk.size)
        except DamagedError as reason:
            raise DamagedError(f"{place} is damaged: {reason}") from reason
        if len(plain) != chunk.size:
            raise DamagedError(f"{place} holds {len(plain)} bytes, {chunk.size} are declared")
        found: Found = []
        entries: Counter[Entry] = Counter()
        for position, opcode, fields, data in records(plain, place):
            if opcode == CONNECTION:
                add_connection(self._connections, *connection_of(fields, data))
            elif opcode == MESSAGE:
                key, receive_ns = number(fields, b"conn"), time_ns(fields, b"time")
                if key not in self._connections:
                    raise DamagedError(f"{place} holds a message of connection {key}, which nothing defines")
                entries[key, receive_ns, position] += 1
                found.append((key, receive_ns, data))
            else:
                raise DamagedError(f"{place} holds a record of type {opcode}, which belongs in no chunk")
        self._compare(chunk, entries, place)
        return found

    def _compare(self, chunk: Ros1Chunk, entries: Counter[Entry], place: str) -> None:
        """Hold a chunk against both of its indexes; one that was never closed has none."""
        if chunk.counts is None and not chunk.entries:
            return
        if chunk.entries != entries:
            raise DamagedError(
                f"the index of {place} lists {chunk.entries.total()} messages that are not the {entries.total()} it "
                "holds"
            )
        counts: Counter[int] = Counter()
        for (key, _, _), count in entries.items():
            counts[key] += count
        if chunk.counts is not None and chunk.counts != counts:
            raise DamagedError(
                f"the index counts {chunk.counts.total()} messages in {place}, it holds {counts.total()}"
            )
        times = [receive_ns for _, receive_ns, _ in entries]
        start_ns, end_ns = chunk.start_ns, chunk.end_ns
        outside = start_ns is not None and end_ns is not None and any(not start_ns <= ns <= end_ns for ns in times)
        if outside:
            raise DamagedError(f"{place} holds messages outside of the time that its index declares")

    def _learn(self) -> None:
        """Read all chunks of a damaged file for their connections and times."""
        with self.path.open("rb") as file:
            for chunk in self._chunks:
                chunk.start_ns = self._first_time(file, chunk)

    def _first_time(self, file: BinaryIO, chunk: Ros1Chunk) -> int:
        try:
            return min((receive_ns for _, receive_ns, _ in self._chunk(file, chunk)), default=0)
        except DamagedError as reason:
            self._note(str(reason))
            return 0

    def _as_cdr(self, key: int, raw: bytes, index: int) -> bytes | None:
        """Return a message as CDR; None when it is damaged and the file is being recovered."""
        connection = self._connections[key]
        kind = full_type(connection.type)
        if key not in self._stores:
            self._stores[key] = store_for(kind, _definition(connection))
        try:
            return bytes(self._stores[key].ros1_to_cdr(raw, kind))
        except DatasetError:
            raise
        except Exception as reason:  # generated code meets damaged bytes in any way
            text = f"message {index} of a chunk on {connection.topic[:80]} is no {kind[:80]}"
            if not self._recover:
                raise DamagedError(text) from reason
            self._note(text)
            return None

    def _note(self, text: str) -> None:
        if text not in self.damage:
            self.damage.append(text)


def _definition(connection: Ros1Connection) -> MessageDefinition:
    return MessageDefinition(MessageDefinitionFormat.MSG, _without_header_number(connection.definition))


def _without_header_number(text: str) -> str:
    """Drop the field ``seq`` of std_msgs/Header, which the conversion to CDR drops too."""
    parts = text.split("=" * 80 + "\n")
    for index, part in enumerate(parts):
        if part.startswith("MSG: std_msgs/Header"):
            lines = part.split("\n")
            parts[index] = "\n".join(line for line in lines if line.split("#")[0].strip() != "uint32 seq")
    return ("=" * 80 + "\n").join(parts)
