"""Writes one rosbag2 MCAP bag without ROS. Serialised messages in, no threads, no decoding."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import yaml
from mcap.writer import CompressionType, Writer

from vla_ros.contract import QosSpec
from vla_ros.data_types import DatasetError
from vla_ros.messages.message_types import INTERFACES, serialize, typestore

_UNLIMITED = {"sec": 2147483647, "nsec": 4294967295}
_CHUNK_BYTES = 1024 * 1024
_VERSION = 9
"""Of rosbag2's metadata."""


class BagWriter:
    """A rosbag2 folder with one MCAP file, its metadata.yaml written on closing.

    Chunks and summary carry checksums. A context manager; leaving it closes the bag. Not thread-safe.

    Args:
        path: Folder to create; its parents are created too.

    Raises:
        DatasetError: The folder exists or cannot be created. `write` raises it when the disk is full.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.counts: dict[str, int] = {}
        self._topics: dict[str, tuple[int, dict[str, Any]]] = {}  # channel, and what metadata.yaml says of it
        self._schemas: dict[str, int] = {}
        self._times: tuple[int, int] | None = None
        self._file: BinaryIO | None = None
        if self.path.exists():
            raise DatasetError(f"{self.path}: cannot be created: it exists already")
        with self._explained("cannot be created"):
            self.path.mkdir(parents=True)
            self._file = (self.path / self._file_name).open("xb")
            self._writer = Writer(self._file, chunk_size=_CHUNK_BYTES, compression=CompressionType.NONE)
            self._writer.start(profile="ros2", library="vla_ros")

    @property
    def _file_name(self) -> str:
        return f"{self.path.name}.mcap"

    def add_topic(self, topic: str, type_name: str, qos: QosSpec | None = None) -> None:
        """Declare a topic, so that the bag names it even when nothing comes.

        Args:
            topic: ROS topic.
            type_name: ROS type.
            qos: What it was offered with, for players; reliable and volatile when not given.

        Raises:
            DatasetError: The type is unknown.
        """
        if topic in self._topics:
            return
        if type_name not in typestore().fielddefs:
            hint = f"; install {INTERFACES}" if type_name.startswith(f"{INTERFACES}/") else ""
            raise DatasetError(f"{self.path}: cannot record {topic}: message type '{type_name}' is unknown{hint}")
        definition, digest = _definition(type_name)
        offered = [_offered(qos or QosSpec("reliable"))]
        writer = self._open_writer()
        with self._explained("cannot be written"):
            if type_name not in self._schemas:
                self._schemas[type_name] = writer.register_schema(type_name, "ros2msg", definition.encode())
            about = {"offered_qos_profiles": yaml.dump(offered, Dumper=_Dumper).strip(), "topic_type_hash": digest}
            channel = writer.register_channel(topic, "cdr", self._schemas[type_name], about)
        self._topics[topic] = (
            channel,
            {
                "name": topic,
                "type": type_name,
                "serialization_format": "cdr",
                "offered_qos_profiles": offered,
                "type_description_hash": digest,
            },
        )
        self.counts[topic] = 0

    def write(self, topic: str, type_name: str, raw: bytes, receive_ns: int) -> None:
        """Append a serialised message, received at `receive_ns`; declares the topic if need be.

        Raises:
            DatasetError: The disk is full, the type is unknown, or the time is before 1970.
        """
        self.add_topic(topic, type_name)
        if not 0 <= receive_ns < 1 << 63:
            raise DatasetError(f"{self.path}: cannot be written: {topic} was received at {receive_ns} ns")
        with self._explained("cannot be written"):
            self._open_writer().add_message(self._topics[topic][0], receive_ns, raw, receive_ns, self.counts[topic])
        first, last = self._times or (receive_ns, receive_ns)
        self._times = (min(first, receive_ns), max(last, receive_ns))
        self.counts[topic] += 1

    def write_message(self, topic: str, type_name: str, message: Any, receive_ns: int) -> None:
        """Append a rosbags message of `message_types.typestore`; otherwise as `write`."""
        self.write(topic, type_name, serialize(message, type_name), receive_ns)

    def close(self) -> None:
        """Write index, footer and metadata. Closing twice does nothing.

        Raises:
            DatasetError: The disk is full; the file then has no footer, but what it holds can be recovered.
        """
        file = self._file
        if file is None:
            return
        try:
            with self._explained("cannot be finished"):
                self._writer.finish()
                file.flush()
                os.fsync(file.fileno())
                self._write_metadata()
        finally:
            self._file = None
            with self._explained("cannot be finished"):
                file.close()

    def _write_metadata(self) -> None:
        first, last = self._times or ((1 << 63) - 1, (1 << 63) - 1)
        span = {"starting_time": {"nanoseconds_since_epoch": first}, "duration": {"nanoseconds": last - first}}
        total = sum(self.counts.values())
        content = {
            "version": _VERSION,
            "storage_identifier": "mcap",
            **span,
            "message_count": total,
            "topics_with_message_count": [
                {"topic_metadata": about, "message_count": self.counts[topic]}
                for topic, (_, about) in self._topics.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._file_name],
            "files": [{"path": self._file_name, **span, "message_count": total}],
            "custom_data": None,
            "ros_distro": os.environ.get("ROS_DISTRO", "kilted"),
        }
        text = yaml.dump({"rosbag2_bagfile_information": content}, Dumper=_Dumper, sort_keys=False)
        part = self.path / "metadata.yaml.part"
        part.write_text(text, encoding="utf-8")
        part.replace(self.path / "metadata.yaml")

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_writer(self) -> Writer:
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        return self._writer

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as reason:
            raise DatasetError(f"{self.path}: {what}: {reason.strerror or reason}") from reason


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes every value out: rosbag2's reader knows no references to what was written before."""

    def ignore_aliases(self, data: object) -> bool:
        """Return True: nothing is referred to."""
        del data
        return True


@lru_cache(maxsize=256)
def _definition(type_name: str) -> tuple[str, str]:
    """Return a type's definition text and hash; cached, for a bag per episode would compute them again each time."""
    store = typestore()
    return store.generate_msgdef(type_name, ros_version=2)[0], store.hash_rihs01(type_name)


def _offered(qos: QosSpec) -> dict[str, Any]:
    """Return a QoS profile as rosbag2 writes it."""
    return {
        "history": "keep_last",
        "depth": qos.depth,
        "reliability": "reliable" if qos.reliability == "reliable" else "best_effort",
        "durability": "transient_local" if qos.durability == "transient_local" else "volatile",
        "deadline": _UNLIMITED,
        "lifespan": _UNLIMITED,
        "liveliness": "automatic",
        "liveliness_lease_duration": _UNLIMITED,
        "avoid_ros_namespace_conventions": False,
    }
