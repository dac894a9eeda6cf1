"""Bags read and written without ROS: rosbag2 folders, and bare ``.mcap`` or ``.db3`` files. No decoding.

Messages come in the order in which they were received, serialised, with their receive time.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rosbags.interfaces import MessageDefinition
from rosbags.rosbag2 import Reader, ReaderError

from vla_ros.data_types import DatasetError, UserError, nearest_name
from vla_ros.messages.message_types import deserialize, deserialize_with, serialize, store_with, typestore
from vla_ros.ros_io.bag_writer import BagWriter
from vla_ros.ros_io.mcap_recovery import is_cut_off, sequential_messages
from vla_ros.streams.stream import Deserialize

__all__ = [
    "BagMessage",
    "BagWriter",
    "bag_deserializer",
    "bag_topics",
    "deserialize",
    "read_messages",
    "serialize",
    "typestore",
]


class BagMessage(NamedTuple):
    """One message of a bag.

    Attributes:
        topic: ROS topic.
        type: ROS type, ``pkg/msg/Type``.
        raw: CDR bytes.
        receive_ns: When the recorder received it, ns of its node clock.
    """

    topic: str
    type: str
    raw: bytes
    receive_ns: int


def read_messages(
    bag: str | Path, topics: Collection[str] | None = None, *, recover: bool = False
) -> Iterator[BagMessage]:
    """Yield a bag's messages in the order they were received.

    Args:
        bag: Folder of a rosbag2 bag, or its ``.mcap`` or ``.db3`` file. A folder without metadata.yaml is read too.
        topics: Only these, or None for all.
        recover: Read a cut-off MCAP file up to the cut instead of refusing it.

    Raises:
        DatasetError: No such bag, not readable, cut off (says how many messages precede the cut), or without one of
            the topics (names the nearest).
    """
    path = Path(bag)
    cut = _cut_off_file(path)
    if cut is not None:
        yield from _recovered(path, cut, topics, recover)
        return
    with _opened(path) as reader:
        chosen = [c for c in reader.connections if topics is None or c.topic in topics]
        _check_topics(path, topics, {c.topic for c in reader.connections})
        if not chosen:  # rosbags takes an empty choice for all
            return
        for connection, receive_ns, raw in reader.messages(chosen):
            yield BagMessage(connection.topic, connection.msgtype, bytes(raw), receive_ns)


def bag_topics(bag: str | Path, *, recover: bool = False) -> dict[str, str]:
    """Return topic → ROS type of a bag; arguments and errors as `read_messages`."""
    path = Path(bag)
    if recover and _cut_off_file(path) is not None:
        return {message.topic: message.type for message in read_messages(path, recover=True)}
    with _opened(path) as reader:
        return {c.topic: c.msgtype for c in reader.connections}


def bag_deserializer(bag: str | Path) -> Deserialize:
    """Return the function that turns a bag's bytes into messages, by the definitions that the bag carries.

    Types of which the bag carries none (older sqlite3 bags) are taken as this ROS distribution has them. Errors as
    `read_messages`; a cut-off bag is read by this distribution's definitions.
    """
    path = Path(bag)
    if _cut_off_file(path) is not None:
        return deserialize
    with _opened(path) as reader:
        definitions: dict[str, MessageDefinition] = {c.msgtype: c.msgdef for c in reader.connections}
    try:
        return partial(deserialize_with, store_with(definitions))
    except DatasetError as reason:
        raise DatasetError(f"{path}: {reason}") from reason


@contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    """Open a bag and turn whatever goes wrong with the file into one sentence."""
    cut = _cut_off_file(path)
    if cut is not None:
        raise _cut_error(path, cut)
    try:
        with Reader(_storage(path)) as reader:
            yield reader
    except (UserError, GeneratorExit):
        raise
    except (ReaderError, OSError) as reason:
        raise DatasetError(f"{path}: not readable as a bag: {reason}") from reason
    except Exception as reason:  # a damaged file meets rosbags' parser as an assertion, a struct or an index error
        raise DatasetError(f"{path}: damaged, not readable as a bag ({type(reason).__name__})") from reason


def _storage(path: Path) -> Path:
    """Return what rosbags opens: the folder, or the one storage file in a folder that has lost its metadata.yaml."""
    if not path.exists():
        hint = nearest_name(path.name, (p.name for p in path.parent.glob("*"))) if path.parent.is_dir() else ""
        raise DatasetError(f"{path}: no such bag.{hint}")
    if not path.is_dir() or (path / "metadata.yaml").exists():
        return path
    files = sorted(f for f in path.iterdir() if f.suffix in (".mcap", ".db3"))
    if len(files) != 1:
        raise DatasetError(
            f"{path}: not a bag: expected metadata.yaml or one .mcap or .db3 file, found {len(files)} such files"
        )
    return files[0]


def _cut_off_file(path: Path) -> Path | None:
    """Return the first MCAP file of a bag that ends without its footer."""
    files = sorted(path.glob("*.mcap")) if path.is_dir() else [path] if path.suffix == ".mcap" else []
    return next((file for file in files if file.is_file() and is_cut_off(file)), None)


def _cut_error(path: Path, cut: Path) -> DatasetError:
    count = sum(1 for _ in sequential_messages(cut))
    return DatasetError(
        f"{path}: {cut.name} is cut off (no MCAP footer): {count} messages precede the cut; "
        "record the episode again, or read what there is with recover=True (vla_ros convert --recover)"
    )


def _recovered(path: Path, cut: Path, topics: Collection[str] | None, recover: bool) -> Iterator[BagMessage]:
    if not recover:
        raise _cut_error(path, cut)
    files = sorted(path.glob("*.mcap")) if path.is_dir() else [path]
    found = [BagMessage(*message) for file in files for message in sequential_messages(file)]
    _check_topics(path, topics, {message.topic for message in found})
    found.sort(key=lambda message: message.receive_ns)
    yield from (message for message in found if topics is None or message.topic in topics)


def _check_topics(path: Path, wanted: Collection[str] | None, there: Collection[str]) -> None:
    for topic in wanted or ():
        if topic not in there:
            raise DatasetError(
                f"{path}: the bag has no topic '{topic}'; it has {', '.join(sorted(there)) or 'none'}."
                f"{nearest_name(topic, there)}"
            )
