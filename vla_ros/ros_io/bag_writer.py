"""Writes one rosbag2 MCAP bag without ROS. Serialised messages in, no threads, no decoding."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from vla_ros.contract import QosSpec
from vla_ros.data_types import DatasetError
from vla_ros.messages.message_types import INTERFACES, serialize, typestore

_UNLIMITED = QosTime(2147483647, 4294967295)


class BagWriter:
    """A rosbag2 folder with one MCAP file, its metadata.yaml written on closing.

    A context manager; leaving it closes the bag. Not thread-safe.

    Args:
        path: Folder to create; its parents are created too.

    Raises:
        DatasetError: The folder exists or cannot be created. `write` raises it when the disk is full.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.counts: dict[str, int] = {}
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = None
        with self._explained("cannot be created"):
            writer = Writer(self.path, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP)
            writer.open()
        self._writer = writer

    def add_topic(self, topic: str, type_name: str, qos: QosSpec | None = None) -> None:
        """Declare a topic, so that the bag names it even when nothing comes.

        Args:
            topic: ROS topic.
            type_name: ROS type.
            qos: What it was offered with, for players; reliable and volatile when not given.

        Raises:
            DatasetError: The type is unknown.
        """
        if topic in self._connections:
            return
        if type_name not in typestore().fielddefs:
            hint = f"; install {INTERFACES}" if type_name.startswith(f"{INTERFACES}/") else ""
            raise DatasetError(f"{self.path}: cannot record {topic}: message type '{type_name}' is unknown{hint}")
        definition, digest = _definition(type_name)
        with self._explained("cannot be written"):
            self._connections[topic] = self._open_writer().add_connection(
                topic,
                type_name,
                msgdef=definition,
                rihs01=digest,
                offered_qos_profiles=[_offered(qos or QosSpec("reliable"))],
            )
        self.counts[topic] = 0

    def write(self, topic: str, type_name: str, raw: bytes, receive_ns: int) -> None:
        """Append a serialised message, received at `receive_ns`; declares the topic if need be.

        Raises:
            DatasetError: The disk is full or the type is unknown.
        """
        self.add_topic(topic, type_name)
        with self._explained("cannot be written"):
            self._open_writer().write(self._connections[topic], receive_ns, raw)
        self.counts[topic] += 1

    def write_message(self, topic: str, type_name: str, message: Any, receive_ns: int) -> None:
        """Append a rosbags message of `message_types.typestore`; otherwise as `write`."""
        self.write(topic, type_name, serialize(message, type_name), receive_ns)

    def close(self) -> None:
        """Write index, footer and metadata. Closing twice does nothing.

        Raises:
            DatasetError: The disk is full; the file then has no footer, but what it holds can be recovered.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._explained("cannot be finished"):
                writer.close()

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise ValueError(f"{self.path} is closed")
        return self._writer

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as reason:
            raise DatasetError(f"{self.path}: {what}: {reason.strerror or reason}") from reason
        except WriterError as reason:
            raise DatasetError(f"{self.path}: {what}: {reason}") from reason


@lru_cache(maxsize=256)
def _definition(type_name: str) -> tuple[str, str]:
    """Return a type's definition text and hash; cached, for a bag per episode would compute them again each time."""
    store = typestore()
    return store.generate_msgdef(type_name, ros_version=2)[0], store.hash_rihs01(type_name)


def _offered(qos: QosSpec) -> Qos:
    reliable, local = qos.reliability == "reliable", qos.durability == "transient_local"
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=qos.depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if local else QosDurability.VOLATILE,
        deadline=_UNLIMITED,
        lifespan=_UNLIMITED,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_UNLIMITED,
        avoid_ros_namespace_conventions=False,
    )
