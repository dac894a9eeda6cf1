"""The parts of a ROS 1 bag, found by walking its records; nothing is unpacked here and no index is needed.

http://wiki.ros.org/Bags/Format/2.0. The format has no checksums. What is read is the file itself; the index at its end
serves to notice what is missing, and to go on after a damaged place.
"""

import io
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vla_ros.bags.compression import DamagedError
from vla_ros.data_types import NANOSECONDS

MAGIC = b"#ROSBAG V"
_VERSION = b"#ROSBAG V2.0\n"
MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = range(2, 8)
_LENGTH = struct.Struct("<I")
_ENTRY = struct.Struct("<II")
_MAX_HEADER = 16 * 1024**2
"""Of a record's header or a connection's definition; a damaged length is not to fill the memory."""

Fields = dict[bytes, bytes]
Entry = tuple[int, int, int]
"""A message as an index has it: connection, receive time in ns, offset within the plain chunk."""


@dataclass(frozen=True)
class Ros1Connection:
    """A publisher's topic, type (``pkg/Name``) and definition."""

    topic: str
    type: str
    definition: str


@dataclass
class Ros1Chunk:
    """A chunk.

    Attributes:
        position: Of its record in the file.
        offset, length: Of its data in the file.
        compression: Of the data.
        size: Plain bytes of the data.
        entries: What its index records list.
        start_ns, end_ns: First and last receive time, by the index at the file's end; None where that lacks it.
        counts: Connection → messages, by the index at the file's end.
    """

    position: int
    offset: int
    length: int
    compression: str
    size: int
    entries: Counter[Entry] = field(default_factory=Counter)
    start_ns: int | None = None
    end_ns: int | None = None
    counts: Counter[int] | None = None


@dataclass
class Ros1Layout:
    """What walking a file found.

    Attributes:
        chunks: In the order of the file.
        connections: By number, of those that stand outside of chunks.
        damage: What was wrong, in the order of the file; empty for a whole file.
        cut: Whether the file ends before its index, as when its recorder was killed.
    """

    chunks: list[Ros1Chunk] = field(default_factory=list)
    connections: dict[int, Ros1Connection] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    cut: bool = False


def fields_of(data: bytes) -> Fields:
    """Return a header's fields, name → value.

    Raises:
        DamagedError: The bytes are no header.
    """
    fields: Fields = {}
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise DamagedError("a record's header is damaged")
        length = _LENGTH.unpack_from(data, position)[0]
        name, equals, value = data[position + 4 : position + 4 + length].partition(b"=")
        position += 4 + length
        if not equals or position > len(data):
            raise DamagedError("a record's header is damaged")
        fields[name] = value
    return fields


def number(fields: Fields, name: bytes, size: int = 4) -> int:
    """Return an unsigned number of a header.

    Raises:
        DamagedError: It has none of that size.
    """
    value = fields.get(name, b"")
    if len(value) != size:
        raise DamagedError(f"a record's header has no {name.decode()}")
    return int.from_bytes(value, "little")


def time_ns(fields: Fields, name: bytes) -> int:
    """Return a time of a header, in ns; errors as `number`."""
    value = number(fields, name, 8)
    return (value & 0xFFFFFFFF) * NANOSECONDS + (value >> 32)


def connection_of(fields: Fields, data: bytes) -> tuple[int, Ros1Connection]:
    """Return the number and content of a connection record.

    Raises:
        DamagedError: It lacks something.
    """
    inner = fields_of(data)
    try:
        kind, text = (inner[name].decode() for name in (b"type", b"message_definition"))
        topic = fields[b"topic"].decode()
    except (KeyError, UnicodeDecodeError) as reason:
        raise DamagedError("a connection record is damaged") from reason
    name = "/".join(part for part in topic.split("/") if part)
    return number(fields, b"conn"), Ros1Connection(f"/{name}", kind, text)


def add_connection(table: dict[int, Ros1Connection], key: int, connection: Ros1Connection) -> None:
    """Note a connection; files repeat them.

    Raises:
        DamagedError: Two of one number differ.
    """
    if table.setdefault(key, connection) != connection:
        raise DamagedError(f"connection {key} is defined twice and differently")


class Ros1LayoutReader:
    """Walks the records of a file.

    Args:
        path: The file.
        recover: Go on after damage where the index tells where the next chunk begins.
    """

    def __init__(self, path: Path, recover: bool) -> None:
        self._path, self._recover = path, recover
        self._layout = Ros1Layout()
        self._index_position = self._n_connections = self._n_chunks = 0

    def read(self) -> Ros1Layout:
        """Return what the file holds; what is wrong with it stands in ``damage``.

        Raises:
            DamagedError: It is no ROS 1 bag, of an older version, or encrypted.
        """
        with self._path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            self._check_version(file.read(len(_VERSION)))
            position: int | None = len(_VERSION)
            while position is not None:
                position = self._walk(file, position, size)
        if not self._layout.damage:
            self._compare()
        return self._layout

    @staticmethod
    def _check_version(head: bytes) -> None:
        if head == _VERSION:
            return
        if head.startswith(MAGIC) and head[len(MAGIC) :].strip().replace(b".", b"").isdigit():
            said = head[len(MAGIC) :].strip().decode()
            raise DamagedError(f"it is of version {said}, and 2.0 is read; convert it with ROS 1's `rosbag fix`")
        raise DamagedError("it does not begin as a ROS 1 bag" if head else "it is empty")

    def _walk(self, file: BinaryIO, position: int, size: int) -> int | None:
        """Read records from a position on; return where to go on after damage, None at the end."""
        layout = self._layout
        try:
            while position < size or not self._index_position:
                position = self._record(file, position, size)
        except DamagedError as reason:
            layout.damage.append(f"at byte {position} of {size}: {reason}")
        except EOFError:
            layout.cut = True
            layout.damage.append(f"it is cut off at byte {size}, or its recorder did not close it: it has no index")
            return None
        else:
            return None
        return self._chunk_after(file, position, size) if self._recover else None

    def _record(self, file: BinaryIO, position: int, size: int) -> int:
        """Read the record at a position; return where it ends."""
        fields, offset, length = _head(file, position, size)
        opcode = number(fields, b"op", 1)
        end = offset + length
        chunks = self._layout.chunks
        if opcode == CHUNK:
            compression = fields.get(b"compression", b"").decode("ascii", "replace")
            plain = "" if compression == "none" else compression
            chunks.append(Ros1Chunk(position, offset, length, plain, number(fields, b"size")))
        elif opcode == INDEX:
            if not chunks:
                raise DamagedError("an index stands before the first chunk")
            chunks[-1].entries.update(_index(fields, _data(file, offset, length)))
        elif opcode == CONNECTION:
            add_connection(self._layout.connections, *connection_of(fields, _data(file, offset, length)))
        elif opcode == CHUNK_INFO:
            self._chunk_info(fields, _data(file, offset, length))
        elif opcode == BAG_HEADER:
            self._bag_header(fields, size)
        elif opcode != MESSAGE:  # a message outside of chunks belongs to no version that is read
            raise DamagedError(f"record type {opcode} is unknown")
        else:
            raise DamagedError("a message stands outside of the chunks")
        return end

    def _bag_header(self, fields: Fields, size: int) -> None:
        if fields.get(b"encryptor"):
            raise DamagedError("it is encrypted, which is not read; decrypt it with ROS 1's `rosbag decrypt`")
        self._index_position = number(fields, b"index_pos", 8)
        self._n_connections, self._n_chunks = number(fields, b"conn_count"), number(fields, b"chunk_count")
        if self._index_position > size:
            raise EOFError

    def _chunk_info(self, fields: Fields, data: bytes) -> None:
        position, count = number(fields, b"chunk_pos", 8), number(fields, b"count")
        chunk = next((chunk for chunk in self._layout.chunks if chunk.position == position), None)
        if len(data) != count * _ENTRY.size or (chunk is None and not self._layout.damage):
            raise DamagedError("its index of chunks is damaged")
        if chunk is not None:
            chunk.counts = Counter(dict(_ENTRY.iter_unpack(data)))
            if count:
                chunk.start_ns, chunk.end_ns = time_ns(fields, b"start_time"), time_ns(fields, b"end_time")

    def _compare(self) -> None:
        """Compare what was found with what the file says of itself."""
        layout = self._layout
        for what, said, found in (
            ("chunks", self._n_chunks, len(layout.chunks)),
            ("connections", self._n_connections, len(layout.connections)),
        ):
            if said != found:
                layout.damage.append(f"its header counts {said} {what}, it holds {found}")
        unlisted = sum(chunk.counts is None for chunk in layout.chunks)
        if unlisted:
            layout.damage.append(f"its index lacks {unlisted} of the {len(layout.chunks)} chunks it holds")

    def _chunk_after(self, file: BinaryIO, position: int, size: int) -> int | None:
        """Return where the next chunk after a damaged place begins, by the index at the file's end."""
        at, later = self._index_position, []
        if not position < at < size:
            return None
        try:
            while at < size:
                fields, offset, length = _head(file, at, size)
                if number(fields, b"op", 1) == CHUNK_INFO:
                    later.append(number(fields, b"chunk_pos", 8))
                at = offset + length
        except (DamagedError, EOFError):
            pass
        return min((chunk for chunk in later if position < chunk < size), default=self._index_position)


def records(plain: bytes, place: str) -> Iterator[tuple[int, int, Fields, bytes]]:
    """Yield (position, opcode, header, data) of the records within a plain chunk.

    Raises:
        DamagedError: A record is damaged or cut off.
    """
    position = 0
    while position < len(plain):
        try:
            length = _LENGTH.unpack_from(plain, position)[0]
            begin = position + 4 + length
            data_length = _LENGTH.unpack_from(plain, begin)[0]
        except struct.error as reason:
            raise DamagedError(f"a record of {place} is cut off") from reason
        end = begin + 4 + data_length
        if end > len(plain):
            raise DamagedError(f"a record of {place} is damaged")
        fields = fields_of(plain[position + 4 : begin])
        yield position, number(fields, b"op", 1), fields, plain[begin + 4 : end]
        position = end


def _head(file: BinaryIO, position: int, size: int) -> tuple[Fields, int, int]:
    """Return a record's header, and offset and length of its data.

    Raises:
        EOFError: The file ends within it.
        DamagedError: The header is none.
    """
    file.seek(position)
    length = _LENGTH.unpack(_data(file, position, 4))[0]
    if length > _MAX_HEADER:
        raise DamagedError(f"a record's header of {length} bytes")
    fields = fields_of(_data(file, position + 4, length))
    begin = position + 4 + length
    data_length = _LENGTH.unpack(_data(file, begin, 4))[0]
    if begin + 4 + data_length > size:
        raise EOFError
    return fields, begin + 4, data_length


def _data(file: BinaryIO, offset: int, length: int) -> bytes:
    if length > 4 * _MAX_HEADER:
        raise DamagedError(f"a record of {length} bytes that is no chunk")
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise EOFError
    return data


def _index(fields: Fields, data: bytes) -> Iterator[Entry]:
    count, connection = number(fields, b"count"), number(fields, b"conn")
    if number(fields, b"ver") != 1 or len(data) != 12 * count:
        raise DamagedError("an index of a chunk is damaged")
    for seconds, nanoseconds, offset in struct.iter_unpack("<III", data):
        yield connection, seconds * NANOSECONDS + nanoseconds, offset
