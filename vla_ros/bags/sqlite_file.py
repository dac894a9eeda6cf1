"""Messages of a rosbag2 sqlite3 file. Read only: a log that its writer left behind is merged into a copy."""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from vla_ros.bags.compression import DamagedError
from vla_ros.bags.mcap_file import Order
from vla_ros.bags.message import NO_DEFINITION, Stored, StoredTopic
from vla_ros.bags.sqlite_pages import PagesReader
from vla_ros.data_types import DatasetError

MAGIC = b"SQLite format 3\0"
_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


class SqliteFile:
    """One ``.db3`` file.

    Args:
        path: The file.
        recover: Take the rows that are whole of a damaged or cut off file.

    Attributes:
        counts: Topic → messages met by the last complete `messages`.
        damage: What is wrong with the file; only ever filled with `recover`.
        cut: Whether the file is shorter than its header says.

    Raises:
        DamagedError: The file is damaged.
        DatasetError: Its log cannot be merged.
    """

    def __init__(self, path: Path, recover: bool = False) -> None:
        self.path, self._recover = path, recover
        self.counts: Counter[str] = Counter()
        self.damage: list[str] = []
        self._folder: TemporaryDirectory[str] | None = None
        self.cut = _is_shorter_than_declared(path)
        self._database = path if self.cut else self._merged()
        self._topics: dict[int, StoredTopic] = {}
        try:
            with closing(self._connected()) as connection:
                self._check(connection)
                self._topics = _read_topics(connection)
                self._count(connection)
        except (sqlite3.Error, DamagedError, UnicodeDecodeError, OverflowError) as reason:
            if not recover:
                self.close()
                raise DamagedError(_sentence(reason)) from reason
            self.damage.append(_sentence(reason))
            self._topics = PagesReader(path).topics()

    def close(self) -> None:
        """Remove what was copied."""
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    @property
    def topics(self) -> list[StoredTopic]:
        """What the file's topics table lists."""
        return list(self._topics.values())

    def messages(self, wanted: Collection[str] | None, order: Order) -> Iterator[Stored]:
        """Yield messages, in the order in which they were written or of their receive times; see `McapFile`."""
        self.counts = Counter()
        try:
            rows = PagesReader(self.path).messages(order) if self.damage else self._rows(order)
            for row in rows:
                number, topic_id, receive_ns, raw = row
                if not (isinstance(topic_id, int) and isinstance(receive_ns, int) and isinstance(raw, bytes)):
                    raise DamagedError(f"row {number} of its messages holds no message")
                topic = self._topics.get(topic_id)
                if topic is None:
                    if self._recover:
                        continue
                    raise DamagedError(f"row {number} of its messages is of topic {topic_id}, which it does not list")
                self.counts[topic.name] += 1
                if wanted is None or topic.name in wanted:
                    yield Stored(topic.name, raw, receive_ns, number)
        except (sqlite3.Error, OverflowError) as reason:
            raise DamagedError(_sentence(reason)) from reason

    def _rows(self, order: Order) -> Iterator[Any]:
        with closing(self._connected()) as connection:
            by = "id" if order == "file" else "timestamp, id"
            yield from connection.execute(f"SELECT id, topic_id, timestamp, data FROM messages ORDER BY {by}")  # noqa: S608

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(self._database))}?mode=ro&immutable=1", uri=True)
        connection.execute("PRAGMA trusted_schema=OFF")
        return connection

    def _merged(self) -> Path:
        """Return the file, or a copy of it into which SQLite has merged the log beside it."""
        logs = [Path(f"{self.path}{suffix}") for suffix in ("-wal", "-journal")]
        logs = [log for log in logs if log.is_file() and log.stat().st_size]
        if not logs:
            return self.path
        self._folder = TemporaryDirectory(prefix="vla_ros_bag_")
        copy = Path(self._folder.name) / self.path.name
        try:
            for file in (self.path, *logs):
                shutil.copyfile(file, copy.with_name(file.name))
            with closing(sqlite3.connect(copy)) as connection:
                connection.execute("PRAGMA trusted_schema=OFF")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        except (OSError, sqlite3.Error) as reason:
            self.close()
            raise DatasetError(
                f"{self.path}: its writer left {', '.join(log.name for log in logs)} behind, and a copy that merges it "
                f"cannot be made in {copy.parent.parent}: {reason}; free some space, or merge it with "
                f"`sqlite3 {self.path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'`."
            ) from reason
        return copy

    def _check(self, connection: sqlite3.Connection) -> None:
        if self.cut:
            raise DamagedError("it is cut off: shorter than its header says")
        kinds = dict(connection.execute("SELECT name, type FROM sqlite_master WHERE name IN ('messages', 'topics')"))
        if kinds != {"messages": "table", "topics": "table"}:
            raise DamagedError("it is no bag: the tables messages and topics are missing")
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found is None or found[0] != "ok":
            raise DamagedError(f"SQLite finds it damaged: {' '.join(str(found and found[0]).split())[:120]}")

    def _count(self, connection: sqlite3.Connection) -> None:
        for topic_id, count in connection.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"):
            if topic_id not in self._topics:
                raise DamagedError(f"{count} of its messages are of topic {topic_id}, which it does not list")
            self._topics[topic_id].declared = count


def _read_topics(connection: sqlite3.Connection) -> dict[int, StoredTopic]:
    definitions: dict[str, MessageDefinition] = {}
    columns = {row[1] for row in connection.execute("PRAGMA table_info(message_definitions)")}
    if {"topic_type", "encoding", "encoded_message_definition"} <= columns:
        query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        for name, encoding, text in connection.execute(query):
            if encoding in _FORMATS and isinstance(text, str):
                definitions[name] = MessageDefinition(_FORMATS[encoding], text)
    topics = {}
    for number, name, kind, encoding in connection.execute("SELECT id, name, type, serialization_format FROM topics"):
        if not all(isinstance(value, str) for value in (name, kind, encoding)):
            raise DamagedError(f"row {number} of its topics holds no topic")
        topics[number] = StoredTopic(name, kind, definitions.get(kind, NO_DEFINITION), encoding, 0)
    return topics


def _is_shorter_than_declared(path: Path) -> bool:
    """Whether pages are missing at the end, by the header's count where it is valid."""
    with path.open("rb") as file:
        head = file.read(100)
        size = file.seek(0, 2)
    if len(head) < 100 or head[24:28] != head[92:96]:
        return len(head) < 100
    page = int.from_bytes(head[16:18], "big")
    return int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page) > size


def _sentence(reason: BaseException) -> str:
    return " ".join(str(reason).split())[:200]
