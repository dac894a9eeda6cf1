"""Rows of a damaged SQLite file, found page by page: a table's rows lie in its leaf pages, whatever became of the rest.

https://sqlite.org/fileformat2.html. Only the tables of a bag are looked for: a row of ``messages`` is (number or
nothing, topic, time, bytes), one of ``topics`` (number or nothing, name, type, format, …).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vla_ros.bags.message import StoredTopic

_LEAF = 0x0D
_FIXED = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
"""Serial type → bytes in the record."""


class PagesReader:
    """Looks through every page of a file.

    Memory grows by some ten bytes a message, not with the messages themselves.

    Args:
        path: The file; need not be whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            head = file.read(100).ljust(100, b"\0")
        size = int.from_bytes(head[16:18], "big")
        size = 65536 if size == 1 else size
        self._page_bytes = size if size in {1 << power for power in range(9, 17)} else 4096
        self._usable = self._page_bytes - head[20]
        self._page: tuple[int, bytes] = (0, b"")

    def topics(self) -> dict[int, StoredTopic]:
        """Return the topics whose rows are whole, by their numbers."""
        found: dict[int, StoredTopic] = {}
        with self._path.open("rb") as file:
            for page, number, _, row in self._rows(file):
                if page and len(row) >= 4 and all(isinstance(value, str) for value in row[1:4]):
                    name, kind, encoding = row[1:4]
                    if name.startswith("/") and kind.count("/") == 2:
                        found.setdefault(number, StoredTopic(name, kind, encoding=encoding))
        return found

    def messages(self, order: str) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (number, topic, receive time in ns, bytes) of every whole row."""
        with self._path.open("rb") as file:
            places = [
                (row[2] if order == "time" else number, number, page, index)
                for page, number, index, row in self._rows(file, without_bytes=True)
                if len(row) == 4 and isinstance(row[1], int) and isinstance(row[2], int) and row[3] is _BYTES
            ]
            seen = set()
            for _, number, page, index in sorted(places):
                row = self._row(file, page, index, without_bytes=False)
                if row is not None and number not in seen and isinstance(row[1][3], bytes):
                    seen.add(number)
                    yield number, row[1][1], row[1][2], row[1][3]

    def _rows(self, file: BinaryIO, without_bytes: bool = False) -> Iterator[tuple[int, int, int, list[Any]]]:
        """Yield (page, row number, cell, values)."""
        for page in range(1, file.seek(0, 2) // self._page_bytes + 1):
            for index in range(self._count(file, page)):
                row = self._row(file, page, index, without_bytes)
                if row is not None:
                    yield page, row[0], index, row[1]

    def _read_page(self, file: BinaryIO, page: int) -> bytes:
        if self._page[0] != page:
            file.seek((page - 1) * self._page_bytes)
            self._page = (page, file.read(self._page_bytes))
        return self._page[1]

    def _count(self, file: BinaryIO, page: int) -> int:
        """Return how many rows a page says it holds, 0 for a page of another kind."""
        begin = 100 if page == 1 else 0
        head = self._read_page(file, page)[begin : begin + 8]
        if len(head) < 8 or head[0] != _LEAF:
            return 0
        count = int.from_bytes(head[3:5], "big")
        return count if count <= self._page_bytes // 4 else 0

    def _row(self, file: BinaryIO, page: int, index: int, without_bytes: bool) -> tuple[int, list[Any]] | None:
        """Return a row's number and values, None where it is not whole."""
        data = self._read_page(file, page)
        begin = 8 + 2 * index + (100 if page == 1 else 0)
        try:
            cell = int.from_bytes(data[begin : begin + 2], "big")
            length, cell = _varint(data, cell)
            number, cell = _varint(data, cell)
            payload = self._payload(file, data, cell, length, without_bytes)
            return None if payload is None else (number, _values(payload, length, without_bytes))
        except (IndexError, ValueError, struct.error):
            return None

    def _payload(self, file: BinaryIO, data: bytes, cell: int, length: int, head_only: bool) -> bytes | None:
        """Return a record's bytes, gathered from its overflow pages; only those in the page itself with `head_only`."""
        usable = self._usable
        if length <= usable - 35:
            part = data[cell : cell + length]
            return part if len(part) == length else None
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= usable - 35 else least
        parts = [data[cell : cell + local]]
        if head_only:
            return parts[0]
        following, left = int.from_bytes(data[cell + local : cell + local + 4], "big"), length - local
        while left > 0:
            if following < 1:
                return None
            file.seek((following - 1) * self._page_bytes)
            page = file.read(self._page_bytes)
            if len(page) < min(self._page_bytes, left + 4):
                return None
            parts.append(page[4 : 4 + min(left, usable - 4)])
            following, left = int.from_bytes(page[:4], "big"), left - (usable - 4)
        return b"".join(parts)


_BYTES: Any = object()
"""Stands for a blob that was not read."""


def _values(payload: bytes, length: int, without_bytes: bool) -> list[Any]:
    """Return a record's values; https://sqlite.org/fileformat2.html#record_format."""
    head_bytes, position = _varint(payload, 0)
    if head_bytes > len(payload) or head_bytes > 200:
        raise ValueError("no record")
    kinds = []
    while position < head_bytes:
        kind, position = _varint(payload, position)
        kinds.append(kind)
    values: list[Any] = []
    position = head_bytes
    for kind in kinds:
        size = _FIXED[kind] if kind in _FIXED else (kind - 12) // 2
        if kind in (10, 11) or size < 0:
            raise ValueError("no value")
        part = payload[position : position + size]
        position += size
        if kind >= 12 and kind % 2 == 0 and without_bytes:
            values.append(_BYTES)
            continue
        if len(part) != size:
            raise ValueError("the record is longer than its page")
        values.append(_value(kind, part))
    if position != length:
        raise ValueError("the record has another length")
    return values


def _value(kind: int, part: bytes) -> Any:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        return struct.unpack(">d", part)[0]
    if kind < 7:
        return int.from_bytes(part, "big", signed=True)
    return part if kind % 2 == 0 else part.decode("utf-8")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a variable-length integer and where it ends."""
    value = 0
    for count in range(9):
        byte = data[position + count]
        if count == 8:
            return value << 8 | byte, position + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + count + 1
    raise ValueError("no integer")
