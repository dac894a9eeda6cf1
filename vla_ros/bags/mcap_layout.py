"""The parts of an MCAP file, found by walking its records; nothing is unpacked here and no index is needed.

https://mcap.dev/spec. An index is a second account of what is in the file, and writers leave parts of it out; what is
read is the file itself, and the index serves to notice what is missing.
"""

import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.records import Channel, ChunkIndex, Schema, Statistics

from vla_ros.bags.compression import DamagedError

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, DATA_END = 0x0B, 0x0F
_KNOWN = range(0x01, 0x10)
_RECORD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQII")
MESSAGE_HEAD = struct.Struct("<HIQQ")
_FOOTER = struct.Struct("<QQI")
_MAX_RECORD = 64 * 1024**2
"""Of records other than chunks, messages and attachments; a damaged length is not to fill the memory."""
_RUN_BYTES = 4 * 1024**2


@dataclass
class Block:
    """A chunk, or a run of messages outside of chunks.

    Attributes:
        start_ns, end_ns: First and last receive time, as declared for a chunk.
        offset, length: Of its data in the file.
        compression: Of the data.
        size: Plain bytes of the data.
        crc: CRC-32 of the plain bytes, 0 where the writer gave none.
        chunk_offset: Of the chunk's record; -1 for a run.
        indexes: Offset and length of its message index records.
    """

    start_ns: int
    end_ns: int
    offset: int
    length: int
    compression: str = ""
    size: int = 0
    crc: int = 0
    chunk_offset: int = -1
    indexes: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Layout:
    """What walking a file found.

    Attributes:
        blocks: In the order of the file.
        schemas, channels: By id, of those that stand outside of chunks.
        statistics: What the writer counted, None where it did not.
        chunk_indexes: As the summary lists them.
        damage: What was wrong, in the order of the file; empty for a whole file.
        cut: Whether the file ends before its footer.
    """

    blocks: list[Block] = field(default_factory=list)
    schemas: dict[int, Any] = field(default_factory=dict)
    channels: dict[int, Any] = field(default_factory=dict)
    statistics: Any = None
    chunk_indexes: list[Any] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    cut: bool = False


def add_definition(table: dict[int, Any], record: Any, kind: str) -> None:
    """Note a schema or channel; files repeat them.

    Raises:
        DamagedError: Two of one number differ.
    """
    if table.setdefault(record.id, record) != record:
        raise DamagedError(f"{kind} {record.id} is defined twice and differently")


def parsed(kind: Any, data: bytes) -> Any:
    """Return a record of the mcap package from its bytes.

    Raises:
        DamagedError: The bytes are no such record.
    """
    stream = ReadDataStream(io.BytesIO(data))
    try:
        record = kind.read(stream)
    except Exception as reason:  # the parser meets damaged bytes in any way: struct, unicode, end of file
        raise DamagedError(f"a {kind.__name__.lower()} record is damaged") from reason
    if stream.count != len(data):
        raise DamagedError(f"a {kind.__name__.lower()} record is damaged")
    return record


class LayoutReader:
    """Walks the records of a file.

    Args:
        path: The file.
        recover: Go on after damage where the summary tells where the next chunk begins.
    """

    def __init__(self, path: Path, recover: bool) -> None:
        self._path, self._recover = path, recover
        self._layout = Layout()
        self._data_end_crc: tuple[int, int] | None = None  # (CRC-32, bytes that it covers)
        self._summary_start = 0

    def read(self) -> Layout:
        """Return what the file holds; what is wrong with it stands in ``damage``."""
        with self._path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            if file.read(len(MAGIC)) != MAGIC:
                raise DamagedError("it does not begin as an MCAP file")
            position: int | None = len(MAGIC)
            while position is not None:
                position = self._walk(file, position, size)
            if not self._layout.damage:
                self._check(file, size)
        return self._layout

    def _walk(self, file: BinaryIO, position: int, size: int) -> int | None:
        """Read records from a position on; return where to go on after damage, None at the end."""
        try:
            while True:
                opcode, length = self._record_head(file, position, size)
                end = position + _RECORD.size + length
                if opcode == FOOTER:
                    self._footer(file, position, end, size)
                    return None
                self._record(file, opcode, position + _RECORD.size, length)
                position = end
        except DamagedError as reason:
            self._layout.damage.append(f"at byte {position} of {size}: {reason}")
        except EOFError:
            self._layout.cut = True
            self._layout.damage.append(f"it is cut off at byte {size} (no MCAP footer)")
            return None
        return self._chunk_after(file, position, size) if self._recover else None

    def _record_head(self, file: BinaryIO, position: int, size: int) -> tuple[int, int]:
        if position + _RECORD.size > size:
            raise EOFError
        file.seek(position)
        opcode, length = _RECORD.unpack(file.read(_RECORD.size))
        if opcode not in _KNOWN and opcode < 0x80:
            raise DamagedError(f"record type {opcode} is unknown")
        if position + _RECORD.size + length > size:
            file.seek(-len(MAGIC), io.SEEK_END)
            if file.read() == MAGIC:
                raise DamagedError(f"a record of {length} bytes reaches beyond the end of the file")
            raise EOFError
        return opcode, length

    def _record(self, file: BinaryIO, opcode: int, offset: int, length: int) -> None:
        layout = self._layout
        if opcode == CHUNK:
            layout.blocks.append(_chunk(file, offset, length))
        elif opcode == MESSAGE:
            self._message(file, offset, length)
        elif opcode == MESSAGE_INDEX:
            if layout.blocks:
                layout.blocks[-1].indexes.append((offset, length))
        elif opcode in (SCHEMA, CHANNEL, CHUNK_INDEX, STATISTICS, DATA_END, HEADER):
            if length > _MAX_RECORD:
                raise DamagedError(f"a record of type {opcode} has {length} bytes")
            file.seek(offset)
            self._small_record(opcode, offset, file.read(length))

    def _small_record(self, opcode: int, offset: int, data: bytes) -> None:
        layout = self._layout
        if opcode == SCHEMA:
            add_definition(layout.schemas, parsed(Schema, data), "schema")
        elif opcode == CHANNEL:
            add_definition(layout.channels, parsed(Channel, data), "channel")
        elif opcode == CHUNK_INDEX:
            layout.chunk_indexes.append(parsed(ChunkIndex, data))
        elif opcode == STATISTICS:
            layout.statistics = parsed(Statistics, data)
        elif opcode == DATA_END and len(data) == 4:
            self._data_end_crc = (struct.unpack("<I", data)[0], offset - _RECORD.size)

    def _message(self, file: BinaryIO, offset: int, length: int) -> None:
        if length < MESSAGE_HEAD.size:
            raise DamagedError(f"a message record has {length} bytes")
        file.seek(offset)
        time_ns = MESSAGE_HEAD.unpack(file.read(MESSAGE_HEAD.size))[2]
        blocks, begin = self._layout.blocks, offset - _RECORD.size
        if blocks and blocks[-1].chunk_offset < 0 and blocks[-1].offset + blocks[-1].length == begin:
            run = blocks[-1]
            if run.length + length < _RUN_BYTES:
                run.start_ns, run.end_ns = min(run.start_ns, time_ns), max(run.end_ns, time_ns)
                run.length += _RECORD.size + length
                run.size = run.length
                return
        size = _RECORD.size + length
        blocks.append(Block(time_ns, time_ns, begin, size, size=size))

    def _footer(self, file: BinaryIO, position: int, end: int, size: int) -> None:
        file.seek(position + _RECORD.size)
        data = file.read(end - position - _RECORD.size)
        if len(data) != _FOOTER.size:
            raise DamagedError("its footer is damaged")
        summary_start, _, crc = _FOOTER.unpack(data)
        if file.read() != MAGIC or end + len(MAGIC) != size:
            raise DamagedError("it does not end as an MCAP file")
        self._summary_start = summary_start
        if crc:
            if not len(MAGIC) <= summary_start <= position:
                raise DamagedError("its footer points outside of the file")
            covered = position + _RECORD.size + _FOOTER.size - 4 - summary_start
            if _crc32(file, summary_start, covered) != crc:
                raise DamagedError("the checksum of its summary does not fit")

    def _check(self, file: BinaryIO, size: int) -> None:
        """Compare what was found with what the file says of itself."""
        layout = self._layout
        chunks = [block for block in layout.blocks if block.chunk_offset >= 0]
        if self._data_end_crc is not None and self._data_end_crc[0]:
            crc, covered = self._data_end_crc
            if _crc32(file, 0, covered) != crc:
                layout.damage.append("the checksum of its data does not fit")
        if layout.statistics is not None and layout.statistics.chunk_count != len(chunks):
            layout.damage.append(f"its statistics count {layout.statistics.chunk_count} chunks, it holds {len(chunks)}")
        listed = {(index.chunk_start_offset, index.message_start_time) for index in layout.chunk_indexes}
        if listed and listed != {(chunk.chunk_offset, chunk.start_ns) for chunk in chunks}:
            layout.damage.append(f"its index lists {len(listed)} chunks that are not the {len(chunks)} it holds")
        if self._summary_start > size:
            layout.damage.append("its footer points outside of the file")

    def _chunk_after(self, file: BinaryIO, position: int, size: int) -> int | None:
        """Return where the next chunk after a damaged place begins, by the summary at the file's end."""
        try:
            file.seek(size - len(MAGIC) - _FOOTER.size)
            start = _FOOTER.unpack(file.read(_FOOTER.size))[0]
            offsets, at = [], start if len(MAGIC) < start < size else size
            while at + _RECORD.size < size - len(MAGIC):
                opcode, length = self._record_head(file, at, size)
                if opcode == CHUNK_INDEX and length < _MAX_RECORD:
                    file.seek(at + _RECORD.size)
                    offsets.append(parsed(ChunkIndex, file.read(length)).chunk_start_offset)
                at += _RECORD.size + length
        except (DamagedError, EOFError, OSError, struct.error):
            return None
        later = [offset for offset in offsets if position < offset < size]
        return min(later) if later else (start if position < start < size else None)


def _chunk(file: BinaryIO, offset: int, length: int) -> Block:
    file.seek(offset)
    head = file.read(_CHUNK.size)
    if len(head) < _CHUNK.size:
        raise DamagedError("a chunk record is damaged")
    start_ns, end_ns, size, crc, name_length = _CHUNK.unpack(head)
    rest = file.read(min(name_length, 64) + 8)
    if name_length > 64 or len(rest) != name_length + 8:
        raise DamagedError("a chunk record is damaged")
    stored = struct.unpack("<Q", rest[name_length:])[0]
    data = offset + _CHUNK.size + name_length + 8
    if data + stored != offset + length:
        raise DamagedError(f"a chunk of {length} bytes declares {stored} bytes of data")
    name = rest[:name_length].decode("ascii", "replace")
    return Block(start_ns, end_ns, data, stored, name, size, crc, offset - _RECORD.size)


def _crc32(file: BinaryIO, offset: int, length: int) -> int:
    file.seek(offset)
    crc = 0
    while length > 0:
        data = file.read(min(length, 1 << 20))
        if not data:
            break
        crc, length = zlib.crc32(data, crc), length - len(data)
    return crc
