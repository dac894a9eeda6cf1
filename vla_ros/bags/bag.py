"""One opened bag: its files found, its topics known, its messages counted against what it declares."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from vla_ros.bags.compression import ZSTD_MAGIC, DamagedError, unpack, unpack_file
from vla_ros.bags.files import BagFiles, find_files, storage_kind
from vla_ros.bags.mcap_file import McapFile, Order
from vla_ros.bags.message import FILE_SHIFT, NO_DEFINITION, BagMessage, StoredTopic, full_topic, full_type
from vla_ros.bags.ros1_file import Ros1File
from vla_ros.bags.sqlite_file import SqliteFile
from vla_ros.data_types import DatasetError, UserError, nearest_name
from vla_ros.messages.message_types import deserialize_with, have_same_fields, store_for

StorageFile = McapFile | SqliteFile | Ros1File
_OPENERS: dict[str, Callable[[Path, bool], StorageFile]] = {
    "mcap": McapFile,
    "sqlite3": SqliteFile,
    "ros1": Ros1File,
}
_RECOVER = "or read what there is with recover=True (vla_ros convert --recover)"


class Bag(AbstractContextManager["Bag"]):
    """A bag that is open for reading.

    Args:
        path: Folder of a rosbag2 bag, or a storage file: MCAP, sqlite3, either of them as ``.zstd``, or ROS 1.
        recover: Read what is whole of a damaged or cut off bag, and note in `damage` what is not.

    Attributes:
        topics: Topic → ROS type.
        damage: Sentences that say what a recovered bag lacks; complete when `messages` has ended.

    Raises:
        DatasetError: No such bag, not readable, damaged, cut off, or other than its metadata.yaml says.
    """

    def __init__(self, path: str | Path, recover: bool = False) -> None:
        self.path, self._recover = Path(path), recover
        self.damage: list[str] = []
        self._folder: TemporaryDirectory[str] | None = None
        self._files: list[StorageFile] = []
        self._found: BagFiles = find_files(self.path, recover)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        for source in self._found.files:
            with self._explained(source.name):
                file = self._unpacked(source)
                self._files.append(_OPENERS[storage_kind(file)](file, self._recover))
        stored = [topic for file in self._files for topic in file.topics]
        self._types: dict[str, set[str]] = {}
        self._definitions: dict[str, MessageDefinition] = {}
        self._encodings: dict[str, set[str]] = {}
        self._others: dict[str, list[MessageDefinition]] = {}  # further definitions of a type, which must say the same
        self._conflicts: set[str] = set()
        self._names: dict[str, set[str]] = {}
        for topic in stored:
            self._add_topic(topic)
        self.topics: dict[str, str] = {name: min(types) for name, types in self._types.items()}
        self._compare(self._declared_by_files(stored), final=False)

    def _add_topic(self, topic: StoredTopic) -> None:
        name, kind = full_topic(topic.name), full_type(topic.type)
        self._names.setdefault(name, set()).add(topic.name)
        self._types.setdefault(name, set()).add(kind)
        self._encodings.setdefault(name, set()).add(topic.encoding)
        if topic.definition.format == MessageDefinitionFormat.NONE:
            return
        if self._definitions.setdefault(kind, topic.definition) != topic.definition:
            self._others.setdefault(kind, []).append(topic.definition)

    def _unpacked(self, source: Path) -> Path:
        if storage_kind(source) != "zstd":
            return source
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="vla_ros_bag_")
        target = Path(self._folder.name) / f"{len(self._files)}_{source.stem}"
        if problem := unpack_file(source, target):
            if not self._recover:
                raise DamagedError(problem)
            self._add_damage(f"{source.name}: {problem}")
        return target

    def close(self) -> None:
        """Close the files and remove what was unpacked."""
        for file in self._files:
            if isinstance(file, SqliteFile):
                file.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def messages(self, topics: Collection[str] | None = None, order: Order = "time") -> Iterator[BagMessage]:
        """Yield messages; when the last one is out, the numbers of all topics are compared with those declared.

        Args:
            topics: Only these, or None for all.
            order: ``time``: as received, file by file; ``file``: as written.

        Raises:
            DatasetError: The bag lacks one of the topics (names the nearest) or is damaged.
        """
        self._check_topics(topics)
        stored = None if topics is None else {name for topic in topics for name in self._names[topic]}
        counts: Counter[str] = Counter()
        for number, file in enumerate(self._files):
            with self._explained(self._found.files[number].name):
                for name, raw, receive_ns, ordinal in file.messages(stored, order):
                    topic = full_topic(name)
                    plain = self._plain(raw, topic)
                    if plain is not None:
                        yield BagMessage(topic, self.topics[topic], plain, receive_ns, number << FILE_SHIFT | ordinal)
            for name, count in file.counts.items():
                counts[full_topic(name)] += count
            self._note(file)
        self._compare(dict(counts), final=True)

    def _plain(self, raw: bytes, topic: str) -> bytes | None:
        """Unpack a message that the recorder packed by itself; its first bytes say so, with or without metadata."""
        metadata, problem = self._found.metadata, ""
        if raw[:4] == ZSTD_MAGIC:
            try:
                return unpack(raw, "zstd")
            except DamagedError as reason:
                problem = str(reason)
        elif metadata is not None and metadata.by_message and raw:
            problem = "it is not compressed, metadata.yaml says that every one is"
        if not problem:
            return raw
        if not self._recover:
            raise DamagedError(f"a message on {topic} is damaged: {problem}")
        self._add_damage(f"a message on {topic} is damaged: {problem}")
        return None

    def definition(self, type_name: str) -> MessageDefinition:
        """Return the definition that the bag carries of a type, of the format NONE where it carries none."""
        return self._definitions.get(type_name, NO_DEFINITION)

    def deserialize(self, raw: bytes, type_name: str) -> Any:
        """Return the message that CDR bytes hold, by the definitions that the bag carries.

        Types of which the bag carries none (older sqlite3 bags) are taken as this ROS distribution has them.

        Raises:
            DatasetError: The bag's definition of the type cannot be used.
            DecodeError: The type is unknown, or the bytes are damaged or of another type.
        """
        definition = self.definition(type_name)
        try:
            for other in self._others.pop(type_name, ()):
                if not have_same_fields(type_name, definition, other):
                    self._conflicts.add(type_name)
            store = store_for(type_name, definition)
        except DatasetError as reason:
            raise DatasetError(f"{self.path}: {reason}") from reason
        if type_name in self._conflicts:
            raise DatasetError(f"{self.path}: carries two definitions of {type_name} that differ; split the bag.")
        return deserialize_with(store, raw, type_name)

    def _check_topics(self, wanted: Collection[str] | None) -> None:
        for topic in self.topics if wanted is None else wanted:
            if topic not in self.topics:
                there = ", ".join(sorted(self.topics)) or "none"
                raise DatasetError(
                    f"{self.path}: the bag has no topic '{topic}'; it has {there[:500]}."
                    f"{nearest_name(topic, self.topics)}"
                )
            if wanted is None:
                continue
            if len(self._names[topic]) > 1:
                raise DatasetError(f"{self.path}: stores {topic} under that name and as {topic[1:]}; split the bag.")
            if len(self._types[topic]) > 1:
                names = " and ".join(sorted(self._types[topic]))
                raise DatasetError(f"{self.path}: {topic} carries two types, {names[:200]}; split the bag.")
            encoding = next((name for name in self._encodings[topic] if name != "cdr"), None)
            if encoding is not None:
                raise DatasetError(
                    f"{self.path}: {topic} is encoded as '{encoding[:40]}', only cdr is read; convert the bag to a "
                    "ROS 2 bag, ROS 1 data with `rosbags-convert`."
                )

    def _declared_by_files(self, stored: list[StoredTopic]) -> dict[str, int] | None:
        if any(topic.declared is None for topic in stored) or any(file.damage for file in self._files):
            return None
        counts: Counter[str] = Counter()
        for topic in stored:
            counts[full_topic(topic.name)] += topic.declared or 0
        return dict(counts)

    def _compare(self, found: dict[str, int] | None, *, final: bool) -> None:
        """Hold what the files contain against metadata.yaml."""
        metadata = self._found.metadata
        if metadata is None or found is None:
            return
        pairs = [
            (topic, metadata.topics.get(topic, 0), found.get(topic, 0))
            for topic in sorted(metadata.topics.keys() | found.keys())
        ]
        if metadata.total is not None:
            pairs.append(("all topics", metadata.total, sum(found.values())))
        for topic, said, held in pairs:
            if said == held:
                continue
            text = f"metadata.yaml counts {said} messages on {topic}, the bag's files hold {held}"
            if self._recover:
                if final:
                    self._add_damage(text)
                continue
            raise DatasetError(
                f"{self.path}: {text}; copy the bag again, or, where its files are whole, write metadata.yaml anew "
                f"with `ros2 bag reindex` or delete it, {_RECOVER}."
            )

    def _note(self, file: StorageFile) -> None:
        for text in file.damage:
            self._add_damage(f"{file.path.name}: {text}")

    def _add_damage(self, text: str) -> None:
        if text not in self.damage:
            self.damage.append(text)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turn whatever goes wrong with a file into one sentence."""
        try:
            yield
        except (UserError, GeneratorExit):
            raise
        except DamagedError as reason:
            if "cut off" in str(reason) and not self._recover:
                raise self._cut_error(name) from reason
            fix = "record the episode again" if self._recover else f"copy or record it again, {_RECOVER}"
            raise DatasetError(f"{self.path}: {name} is not readable as a bag: {reason}; {fix}") from reason
        except OSError as reason:
            raise DatasetError(f"{self.path}: {name} cannot be read: {reason.strerror or reason}") from reason
        except (ValueError, LookupError, ArithmeticError, AssertionError, sqlite3.Error, MemoryError) as reason:
            # what a damaged file can meet in a parser of ours or of a library
            kind = type(reason).__name__
            raise DatasetError(f"{self.path}: {name} is damaged, not readable as a bag ({kind})") from reason

    def _cut_error(self, name: str) -> DatasetError:
        try:
            with Bag(self.path, recover=True) as bag:
                count = sum(1 for _ in bag.messages())
        except DatasetError:
            count = 0
        footer = " (no MCAP footer)" if name.endswith(".mcap") else ""
        return DatasetError(
            f"{self.path}: {name} is cut off{footer}: {count} messages precede the cut; record the episode again, "
            f"{_RECOVER}"
        )
