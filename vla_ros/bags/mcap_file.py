"""Messages of an MCAP file: every one that is in it, with or without indexes, each chunk checked first."""

import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mcap.records import Channel, Schema
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from vla_ros.bags.compression import DamagedError, unpack
from vla_ros.bags.mcap_layout import (
    CHANNEL,
    MESSAGE,
    MESSAGE_HEAD,
    SCHEMA,
    Block,
    LayoutReader,
    add_definition,
    parsed,
)
from vla_ros.bags.message import BLOCK_SHIFT, NO_DEFINITION, Stored, StoredTopic, in_time_order

Order = Literal["file", "time"]
_RECORD = struct.Struct("<BQ")
_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}


class McapFile:
    """One MCAP file.

    Args:
        path: The file.
        recover: Take what is whole of a damaged or cut off file.

    Attributes:
        counts: Channel topic → messages met by the last complete `messages`, the unwanted ones too.
        damage: What is wrong with the file; only ever filled with `recover`.
        cut: Whether the file ends before its footer.

    Raises:
        DamagedError: The file contradicts itself.
    """

    def __init__(self, path: Path, recover: bool = False) -> None:
        self.path, self._recover = path, recover
        layout = LayoutReader(path, recover).read()
        self.cut, self.damage = layout.cut, layout.damage
        self.counts: Counter[str] = Counter()
        self._schemas, self._channels = layout.schemas, layout.channels
        self._statistics, self._blocks = layout.statistics, layout.blocks
        if self.damage and not recover:
            raise DamagedError(self.damage[0])
        if not self._channels or (self._statistics is None) or self.damage:
            self._learn_channels()

    @property
    def topics(self) -> list[StoredTopic]:
        """What the file's channels carry."""
        counts = None if self._statistics is None else self._statistics.channel_message_counts
        result = []
        for channel in self._channels.values():
            schema = self._schemas.get(channel.schema_id)
            definition = NO_DEFINITION
            if schema is not None and (form := _FORMATS.get(schema.encoding)) is not None:
                definition = MessageDefinition(form, schema.data.decode("utf-8", "replace"))
            declared = None if counts is None or self.damage else counts.get(channel.id, 0)
            name = "" if schema is None else schema.name
            result.append(StoredTopic(channel.topic, name, definition, channel.message_encoding, declared))
        return result

    def messages(self, wanted: Collection[str] | None, order: Order) -> Iterator[Stored]:
        """Yield messages, in the order of the file or of their receive times.

        Args:
            wanted: Topics, or None for all. The others are counted too.
            order: ``file`` or ``time``; messages received at the same time keep the order of the file.

        Raises:
            DamagedError: A chunk is damaged, or there are more or fewer messages than declared.
        """
        self.counts = Counter()
        with self.path.open("rb") as file:
            if order == "file":
                for number in range(len(self._blocks)):
                    yield from self._chosen(file, number, wanted)
            else:
                starts_ns = [block.start_ns for block in self._blocks]
                yield from in_time_order(starts_ns, lambda number: self._chosen(file, number, wanted))
        self._compare_counts()

    def _chosen(self, file: BinaryIO, number: int, wanted: Collection[str] | None) -> Iterator[Stored]:
        """Return the wanted messages of one block; all of them are counted."""
        try:
            found = self._block(file, number)
        except DamagedError as reason:
            if not self._recover:
                raise
            self._note(str(reason))
            return
        for channel_id, receive_ns, raw, index in found:
            topic = self._channels[channel_id].topic
            self.counts[topic] += 1
            if wanted is None or topic in wanted:
                yield Stored(topic, raw, receive_ns, number << BLOCK_SHIFT | index)

    def _block(self, file: BinaryIO, number: int) -> list[tuple[int, int, bytes, int]]:
        """Return (channel, receive time, bytes, index) of a block's messages; its definitions are noted.

        Raises:
            DamagedError: Anything in it contradicts anything else.
        """
        block = self._blocks[number]
        place = f"the chunk at byte {block.chunk_offset}"
        file.seek(block.offset)
        try:
            plain = unpack(file.read(block.length), block.compression, block.size)
        except DamagedError as reason:
            raise DamagedError(f"{place} is damaged: {reason}") from reason
        if len(plain) != block.size:
            raise DamagedError(f"{place} holds {len(plain)} bytes, {block.size} are declared")
        if block.crc and zlib.crc32(plain) != block.crc:
            raise DamagedError(f"the checksum of {place} does not fit")
        found, entries = self._records(plain, place)
        if any(not block.start_ns <= receive_ns <= block.end_ns for _, receive_ns, _, _ in found):
            raise DamagedError(f"{place} holds messages outside of the time that it declares")
        if not block.crc and block.indexes:
            self._compare_index(file, block, entries, place)
        return found

    def _records(self, plain: bytes, place: str) -> tuple[list[tuple[int, int, bytes, int]], Counter[Any]]:
        found: list[tuple[int, int, bytes, int]] = []
        entries: Counter[Any] = Counter()
        position = 0
        while position < len(plain):
            if position + _RECORD.size > len(plain):
                raise DamagedError(f"a record of {place} is cut off")
            opcode, length = _RECORD.unpack_from(plain, position)
            begin, end = position + _RECORD.size, position + _RECORD.size + length
            if end > len(plain) or (opcode == MESSAGE and length < MESSAGE_HEAD.size):
                raise DamagedError(f"a record of {place} is damaged")
            if opcode == MESSAGE:
                channel_id, _, receive_ns, _ = MESSAGE_HEAD.unpack_from(plain, begin)
                if channel_id not in self._channels:
                    raise DamagedError(f"{place} holds a message of channel {channel_id}, which nothing defines")
                entries[channel_id, receive_ns, position] += 1
                found.append((channel_id, receive_ns, plain[begin + MESSAGE_HEAD.size : end], len(found)))
            elif opcode == SCHEMA:
                add_definition(self._schemas, parsed(Schema, plain[begin:end]), "schema")
            elif opcode == CHANNEL:
                add_definition(self._channels, parsed(Channel, plain[begin:end]), "channel")
            elif opcode < 0x80:
                raise DamagedError(f"{place} holds a record of type {opcode}, which belongs in no chunk")
            position = end
        return found, entries

    def _compare_index(self, file: BinaryIO, block: Block, entries: Counter[Any], place: str) -> None:
        """Refuse a chunk without checksum whose index says otherwise; channels that have no index are let be."""
        listed: Counter[Any] = Counter()
        channels = set()
        for offset, length in block.indexes:
            file.seek(offset)
            data = file.read(length)
            if length < 6 or (length - 6) % 16 or struct.unpack_from("<I", data, 2)[0] != length - 6:
                raise DamagedError(f"the message index of {place} is damaged")
            channel_id = struct.unpack_from("<H", data)[0]
            channels.add(channel_id)
            listed.update((channel_id, *entry) for entry in struct.iter_unpack("<QQ", data[6:]))
        if listed != Counter({entry: n for entry, n in entries.items() if entry[0] in channels}):
            raise DamagedError(f"the message index of {place} lists other messages than it holds")

    def _learn_channels(self) -> None:
        """Read all chunks for their definitions, where no summary repeats them."""
        with self.path.open("rb") as file:
            for number, block in enumerate(self._blocks):
                if block.chunk_offset < 0:
                    continue
                try:
                    self._block(file, number)
                except DamagedError as reason:
                    if not self._recover:
                        raise
                    self._note(str(reason))

    def _compare_counts(self) -> None:
        if self._statistics is None:
            return
        declared: Counter[str] = Counter()
        for channel_id, count in self._statistics.channel_message_counts.items():
            channel = self._channels.get(channel_id)
            declared["" if channel is None else channel.topic] += count
        if not declared:  # some writers count the file and not its channels
            pairs = [("all topics", self._statistics.message_count, self.counts.total())]
        else:
            topics = declared.keys() | self.counts.keys()
            pairs = [(topic, declared[topic], self.counts[topic]) for topic in sorted(topics)]
            pairs.append(("all topics", self._statistics.message_count, self.counts.total()))
        for topic, said, found in pairs:
            if said != found:
                text = f"its statistics count {said} messages on {topic or 'a channel that nothing defines'}"
                text += f", it holds {found}"
                if not self._recover:
                    raise DamagedError(text)
                self._note(text)

    def _note(self, text: str) -> None:
        if text not in self.damage:
            self.damage.append(text)
