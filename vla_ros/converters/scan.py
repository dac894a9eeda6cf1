"""First pass over a bag: what is in it, when, and whose episode it is. Reads stamps, decodes no sensor data."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import AlignmentSpec, RobotContract, load_contract
from vla_ros.contract.types import has_header
from vla_ros.data_types import NANOSECONDS, DatasetError, DecodeError, nearest_name
from vla_ros.messages.stamps import header_stamp_ns
from vla_ros.ros_io.bags import bag_deserializer, bag_topics, read_messages
from vla_ros.streams import Deserialize

_SAME_CLOCK_S = 10.0
"""Receive and header times further apart than this, in the median, are of different clocks: a bag of a simulated
robot that was recorded under wall time. No transport is that slow."""


@dataclass
class StreamScan:
    """The messages of one contract stream in a bag.

    Attributes:
        key: Feature key, ``action`` for the recorded action.
        topic: ROS topic.
        max_age_s: The contract's limit.
        stamps_ns: Of samples on their timeline, rising; late and repeated ones are left out and counted.
        delays_ns: Receive time minus header stamp, where the type has a header.
        refused: Messages out of order, without a stamp, or too damaged to have one.
    """

    key: str
    topic: str
    max_age_s: float
    stamps_ns: NDArray[np.int64]
    delays_ns: NDArray[np.int64]
    refused: int


@dataclass
class BagScan:
    """What the first pass over a bag found.

    Attributes:
        bag: The bag.
        storage: What is opened to read it.
        topics: Topic → ROS type.
        streams: Contract streams that have samples, by "key topic".
        clock_offset_ns: Receive clock minus header clock; 0 when they are the same.
        instructions: (receive time on the header clock, text) of the instruction topic, in order.
        episode: Content of ``episode.json``, empty without one.
        deserialize: Turns the bag's bytes into messages.
    """

    bag: Path
    storage: Path
    topics: dict[str, str]
    deserialize: Deserialize
    streams: dict[str, StreamScan] = field(default_factory=dict)
    clock_offset_ns: int = 0
    instructions: list[tuple[int, str]] = field(default_factory=list)
    episode: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Source:
    """A stream that the contract names."""

    key: str
    topic: str
    type: str
    alignment: AlignmentSpec
    max_age_s: float
    required: bool

    @property
    def by_header(self) -> bool:
        return self.alignment.timeline == "header" and has_header(self.type)


def _sources(contract: RobotContract) -> list[_Source]:
    record = contract.action.record
    inputs = [_Source(s.key, s.topic, s.type, s.alignment, s.max_age_s, s.required) for s in contract.inputs]
    return [*inputs, _Source(contract.action.key, record.topic, record.type, record.alignment, record.max_age_s, True)]


def read_episode_file(bag: Path) -> dict[str, Any]:
    """Return the content of a bag's ``episode.json``, empty when there is none.

    Raises:
        DatasetError: It is malformed.
    """
    path = bag / "episode.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as reason:
        raise DatasetError(f"{path}: not readable as JSON: {reason}") from reason
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}.")
    return content


def check_contract_of(bag: Path, contract: RobotContract, episode: dict[str, Any]) -> None:
    """Refuse a bag that was recorded under another contract.

    Raises:
        DatasetError: Hashes differ; says both.
        ContractError: The bag's own copy is malformed.
    """
    path = bag / "contract.yaml"
    recorded = load_contract(path).hash if path.is_file() else episode.get("contract_hash")
    if recorded is not None and recorded != contract.hash:
        raise DatasetError(
            f"{bag}: was recorded under contract {recorded}, {contract.source or 'the given contract'} has hash "
            f"{contract.hash}; convert with the bag's own contract.yaml, or record again."
        )


def scan_bag(bag: Path, contract: RobotContract, episode: dict[str, Any], recover: bool = False) -> BagScan:
    """Read every stamp of a bag.

    Raises:
        DatasetError: The bag is not readable, or a required stream's topic is missing, of another type, or empty.
    """
    sources = _sources(contract)
    storage = _storage(bag)
    topics = bag_topics(storage, recover=recover)
    _check_topics(bag, sources, topics)
    scan = BagScan(bag, storage, topics, bag_deserializer(storage), episode=episode)
    instruction_topic = contract.instruction.topic
    wanted = {source.topic for source in sources if source.topic in topics} | ({instruction_topic} & topics.keys())
    arrivals: dict[str, list[tuple[int, int | None]]] = {topic: [] for topic in wanted}
    headers = {source.topic for source in sources if has_header(source.type)}
    for message in read_messages(storage, wanted, recover=recover):
        if message.topic == instruction_topic:
            scan.instructions.append((message.receive_ns, str(scan.deserialize(message.raw, message.type).data)))
        else:
            stamp_ns = _stamp(message.raw) if message.topic in headers else None
            arrivals[message.topic].append((message.receive_ns, stamp_ns))
    scan.clock_offset_ns = _clock_offset(arrivals.values())
    scan.instructions = [(ns - scan.clock_offset_ns, text) for ns, text in scan.instructions]
    for source in sources:
        if arrivals.get(source.topic):
            scan.streams[f"{source.key} {source.topic}"] = _stream(source, arrivals[source.topic], scan.clock_offset_ns)
    for source in sources:
        stream = scan.streams.get(f"{source.key} {source.topic}")
        if source.required and (stream is None or not len(stream.stamps_ns)):
            refused = f" ({stream.refused} had no usable header stamp)" if stream is not None else ""
            raise DatasetError(
                f"{bag}: '{source.key}' has no message with a time on {source.topic}{refused}; was the sensor running?"
            )
    scan.streams = {name: stream for name, stream in scan.streams.items() if len(stream.stamps_ns)}
    return scan


def _storage(bag: Path) -> Path:
    """Return the bag's file where it has one: parsing metadata.yaml takes longer than reading a short episode."""
    files = list(bag.glob("*.mcap")) if bag.is_dir() else []
    return files[0] if len(files) == 1 else bag


def _check_topics(bag: Path, sources: list[_Source], topics: dict[str, str]) -> None:
    for source in sources:
        if source.topic not in topics and source.required:
            raise DatasetError(
                f"{bag}: lacks the topic {source.topic} of '{source.key}'; "
                f"it holds {', '.join(sorted(topics)) or 'no message'}."
                f"{nearest_name(source.topic, topics)}"
            )
        if topics.get(source.topic, source.type) != source.type:
            raise DatasetError(
                f"{bag}: {source.topic} holds {topics[source.topic]}, "
                f"the contract's '{source.key}' expects {source.type}."
            )


def _stamp(raw: bytes) -> int | None:
    """Header stamp in ns, None where there is none to use."""
    try:
        return header_stamp_ns(raw) or None
    except DecodeError:
        return None


def _clock_offset(arrivals: Iterable[list[tuple[int, int | None]]]) -> int:
    delays = [receive - stamp for messages in arrivals for receive, stamp in messages if stamp is not None]
    if not delays or abs(float(np.median(delays))) < _SAME_CLOCK_S * NANOSECONDS:
        return 0
    return min(delays)


def _stream(source: _Source, messages: list[tuple[int, int | None]], offset_ns: int) -> StreamScan:
    stamps: list[int] = []
    delays: list[int] = []
    refused = 0
    for receive_ns, header_ns in messages:
        stamp_ns = header_ns if source.by_header else receive_ns - offset_ns
        if header_ns is not None:
            delays.append(receive_ns - offset_ns - header_ns)
        if stamp_ns is None or (stamps and stamp_ns <= stamps[-1]):
            refused += 1
        else:
            stamps.append(stamp_ns)
    return StreamScan(
        source.key, source.topic, source.max_age_s, np.array(stamps, np.int64), np.array(delays, np.int64), refused
    )
