"""First pass over a bag: what is in it, when, and whose episode it is. Reads stamps, decodes no sensor data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.bags import Bag, BagMessage
from vla_ros.bags.clock import ClockMode, ClockSegment, TopicTimes, decide_clock, order_to_read
from vla_ros.bags.mcap_file import Order
from vla_ros.contract import AlignmentSpec, RobotContract, WindowSpec
from vla_ros.contract.types import has_header
from vla_ros.converters.drivers import Drivers
from vla_ros.data_types import NANOSECONDS, DatasetError, DecodeError, nearest_name
from vla_ros.data_types.foreign_text import plain
from vla_ros.messages.forms.transforms import TF_MESSAGE, first_transform
from vla_ros.messages.image_sizes import image_size
from vla_ros.messages.stamps import header_stamp_ns
from vla_ros.streams import Deserialize

_INSTRUCTION_TYPE = "std_msgs/msg/String"
_CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class Source:
    """A stream that the contract names.

    Attributes:
        index: Its number in the observation pipeline, or -1 and below for the topics of the recorded action.
        key: Feature key.
        topic: ROS topic.
        type: ROS type.
        alignment: Method and timeline.
        max_age_s: The contract's limit.
        required: Whether a tick without it is no frame.
        window: Where the stream is one of windows.
        next_state_fps: Of a record whose action is the state at the next tick, the ticks per second; else 0.
    """

    index: int
    key: str
    topic: str
    type: str
    alignment: AlignmentSpec
    max_age_s: float
    required: bool
    window: WindowSpec | None = None
    next_state_fps: int = 0

    @property
    def has_header(self) -> bool:
        """Whether its messages carry a stamp."""
        return has_header(self.type) or self.type == TF_MESSAGE

    @property
    def interpolates(self) -> bool:
        """Whether its value at a tick depends on the sample after it."""
        return self.alignment.method != "hold" or self.window is not None

    @property
    def by_header(self) -> bool:
        """Whether its samples are placed by their stamps."""
        return self.alignment.timeline == "header" and self.has_header


def sources_of(contract: RobotContract) -> list[Source]:
    """Return all streams of a contract that a dataset can hold, the action last."""
    inputs = [
        Source(i, s.key, s.topic, s.type, s.alignment, s.max_age_s, s.required, s.window)
        for i, s in enumerate(contract.inputs)
    ]
    records = [
        Source(
            index=-1 - i,
            key=contract.action.key,
            topic=r.topic,
            type=r.type,
            alignment=r.alignment,
            max_age_s=r.max_age_s,
            required=True,
            next_state_fps=contract.fps if r.next_state else 0,
        )
        for i, r in enumerate(contract.action.records)
    ]
    return [*inputs, *records]


@dataclass
class BagScan:
    """What the first pass over a bag found.

    Attributes:
        bag: The bag.
        topics: Topic → ROS type.
        deserialize: Turns the bag's bytes into messages.
        order: In which its messages are read.
        sources: Streams of the contract that have messages.
        times: Topic → stamps and receive times of its messages.
        lanes: Topic that several drivers may share → which of its messages carry the same joints, by number.
        parts: By the number of a lane, its first joint or child frame.
        relevant: Such a topic → the lanes that carry what the contract names.
        segments: Stretches in which the clocks run on.
        instructions: (ordinal, receive time, text) of the instruction topic, in order.
        camera_infos: Topic → the first CameraInfo of those that the contract names.
        image_sizes: Topic → height and width of its last image.
        episode: Content of ``episode.json``, empty without one.
        notes: Sentences that whoever converts the bag shall read.
    """

    bag: Path
    topics: dict[str, str]
    deserialize: Deserialize
    order: Order = "file"
    sources: list[Source] = field(default_factory=list)
    times: dict[str, TopicTimes] = field(default_factory=dict)
    lanes: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=lambda: [""])
    relevant: dict[str, list[int]] = field(default_factory=dict)
    segments: list[ClockSegment] = field(default_factory=list)
    instructions: list[tuple[int, int, str]] = field(default_factory=list)
    camera_infos: dict[str, Any] = field(default_factory=dict)
    image_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    episode: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
    except (ValueError, RecursionError, OSError) as reason:
        raise DatasetError(f"{path}: not readable as JSON: {str(reason)[:200]}") from reason
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}.")
    return content


def clock_limit_ns(contract: RobotContract) -> int:
    """Return by how much the clocks of a contract's streams may differ: a tick, or what the robot waits for samples."""
    return round(max(1.0 / contract.fps, contract.max_wait_s) * NANOSECONDS)


def scan_bag(bag: Path, contract: RobotContract, episode: dict[str, Any], *, recover: bool = False) -> BagScan:
    """Read every stamp of a bag.

    Raises:
        DatasetError: The bag is not readable or other than it declares, or a required stream's topic is missing or of
            another type.
    """
    sources = sources_of(contract)
    with Bag(bag, recover) as opened:
        _check_topics(bag, sources, opened.topics)
        scan = BagScan(bag, dict(opened.topics), opened.deserialize, episode=episode)
        infos = {spec.info.topic for spec in contract.inputs if spec.info is not None}
        drivers = Drivers(contract, scan.deserialize)
        reader = _Reader(scan, sources, contract.instruction.topic, infos, drivers)
        for message in opened.messages(reader.wanted, "file"):
            reader.take(message)
        scan.notes += [f"{bag}: recovered, {text}" for text in opened.damage]
        if episode.get("lost_messages"):
            lost = str(episode["lost_messages"])[:20]
            scan.notes.append(f"{bag}: its recorder lost {lost} messages, its disk was too slow")
    reader.finish()
    scan.sources = [source for source in sources if source.topic in scan.times]
    return scan


def decide_segments(scan: BagScan, contract: RobotContract, clock: ClockMode) -> None:
    """Decide a bag's clock, and where it is split.

    Raises:
        DatasetError: A required stream has no message with a time, or the clocks do not belong together.
    """
    bag = scan.bag
    _check_messages(bag, sources_of(contract), scan.times, clock)
    _leave_out_optional(scan, contract, clock)
    segments = decide_clock(list(scan.times.values()), clock, clock_limit_ns(contract), str(bag))
    scan.segments = [part for part in segments if not part.refused]
    scan.notes += [f"{bag}: {part.begins}; the episode ends there" for part in segments if part.begins]
    for part in segments:
        if part.refused:
            where = f"after: {part.begins}" if part.begins else "before the first step"
            scan.notes.append(f"{bag}: a part of a bag is left out ({where}): {part.refused}")


def _leave_out_optional(scan: BagScan, contract: RobotContract, clock: ClockMode) -> None:
    """Drop optional topics that are of another type, or on a clock that does not fit the required ones."""
    limit_ns, place = clock_limit_ns(contract), str(scan.bag)
    needed = {source.topic for source in sources_of(contract) if source.required}
    for source in sources_of(contract):
        if not source.required and scan.topics.get(source.topic, source.type) != source.type:
            scan.notes.append(
                f"{place}: {source.topic} holds {scan.topics[source.topic]}, the contract's '{source.key}' expects "
                f"{source.type}; it is taken as absent"
            )

    required = [times for topic, times in scan.times.items() if topic in needed]
    most, _ = _fitting(required, clock, limit_ns)
    for topic in [topic for topic in scan.times if topic not in needed]:
        fitting, reason = _fitting([*required, scan.times[topic]], clock, limit_ns, topic)
        if fitting < most:
            scan.notes.append(f"{place}: {topic} is optional and taken as absent: {reason}")
            del scan.times[topic]
    scan.sources = [source for source in scan.sources if source.topic in scan.times]


def _fitting(topics: list[TopicTimes], clock: ClockMode, limit_ns: int, besides: str = "") -> tuple[int, str]:
    """Return how many messages, but for one topic's, are in stretches in which clocks fit, and why others do not."""
    try:
        segments = decide_clock(topics, clock, limit_ns, "")
    except DatasetError as reason:
        return 0, str(reason).removeprefix(": ")
    count = sum(
        end - begin
        for part in segments
        if not part.refused
        for topic, (begin, end) in part.ranges.items()
        if topic != besides
    )
    return count, next((part.refused for part in segments if part.refused), "")


class _Reader:
    """Collects the times of every topic that the contract names."""

    def __init__(
        self, scan: BagScan, sources: list[Source], instruction_topic: str, info_topics: set[str], drivers: Drivers
    ) -> None:
        self._scan = scan
        self._static = {topic for topic in drivers.static_topics if scan.topics.get(topic) == TF_MESSAGE}
        self._infos = {topic for topic in info_topics if scan.topics.get(topic) == _CAMERA_INFO_TYPE}
        self._stamped = {source.topic for source in sources if source.has_header}
        self._by_header = {source.topic for source in sources if source.by_header}
        self._drivers = drivers
        self._rows: dict[str, list[tuple[int, int, int, int]]] = {
            source.topic: [] for source in sources if scan.topics.get(source.topic) == source.type
        }
        self._instruction = instruction_topic if scan.topics.get(instruction_topic) == _INSTRUCTION_TYPE else ""
        self._sizes = scan.image_sizes
        self._first_ns: int | None = None
        self.wanted = {*self._rows, *self._infos, *self._static, *([self._instruction] if self._instruction else [])}

    def take(self, message: BagMessage) -> None:
        """Note one message."""
        if self._first_ns is None:
            self._first_ns = message.receive_ns
        if message.topic == self._instruction:
            text = str(self._scan.deserialize(message.raw, message.type).data)
            self._scan.instructions.append((message.ordinal, message.receive_ns, text))
        if message.topic in self._static:
            self._drivers.edges(message)
        if message.topic in self._infos:
            self._take_info(message)
        if message.topic in self._rows:
            stamp_ns = _stamp(message) if message.topic in self._stamped else 0
            self._rows[message.topic].append(
                (message.ordinal, message.receive_ns, stamp_ns, self._drivers.number(message))
            )
            self._watch_size(message)

    def _take_info(self, message: BagMessage) -> None:
        """Keep the first CameraInfo of a topic; a damaged one is no reason to refuse the bag."""
        try:
            self._scan.camera_infos[message.topic] = self._scan.deserialize(message.raw, message.type)
        except DecodeError as reason:
            self._scan.notes.append(f"{self._scan.bag}: {message.topic}: {reason}")
        self._infos.discard(message.topic)

    def _watch_size(self, message: BagMessage) -> None:
        size = image_size(message.raw, message.type)
        if size is None:
            return
        before = self._sizes.setdefault(message.topic, size)
        if before != size:
            at_s = (message.receive_ns - (self._first_ns or 0)) / NANOSECONDS
            self._scan.notes.append(
                f"{self._scan.bag}: the images on {message.topic} change from {before[0]}x{before[1]} to "
                f"{size[0]}x{size[1]} (height x width) {at_s:.3f} s into the bag; all are resized to the contract's"
            )
            self._sizes[message.topic] = size

    def finish(self) -> None:
        """Turn what was noted into arrays, in the order in which the bag is to be read."""
        times = {topic: self._times(topic, rows) for topic, rows in self._rows.items() if rows}
        self._scan.order = order_to_read(list(times.values()))
        if self._scan.order == "time":
            # The place in the file says nothing then; that in time takes its part
            self._rows = {
                topic: [(ns, ns, stamp_ns, lane) for _, ns, stamp_ns, lane in sorted(rows, key=_by_time)]
                for topic, rows in self._rows.items()
            }
            self._scan.instructions = sorted((ns, ns, text) for _, ns, text in self._scan.instructions)
            times = {topic: self._times(topic, rows) for topic, rows in self._rows.items() if rows}
        self._scan.times, self._scan.parts = times, self._drivers.parts
        notes = self._scan.notes
        sizes = [note for note in notes if "the images on" in note]
        if len(sizes) > _SIZE_NOTES:
            notes[:] = [n for n in notes if n not in sizes[_SIZE_NOTES:]]
            notes.append(f"{self._scan.bag}: and {len(sizes) - _SIZE_NOTES} further changes of an image's size")

    def _times(self, topic: str, rows: list[tuple[int, int, int, int]]) -> TopicTimes:
        table = np.array(rows, np.int64).reshape(-1, 4)
        self._scan.lanes[topic] = table[:, 3]
        header = table[:, 2] if topic in self._by_header else None
        drivers = []
        if len(np.unique(table[:, 3])) > 1:
            self._scan.relevant[topic] = self._drivers.relevant(topic)
        for number in self._scan.relevant.get(topic, ()):
            own = table[table[:, 3] == number]
            name = f"{topic} ({plain(self._drivers.parts[number])})"
            drivers.append(TopicTimes(name, own[:, 0], own[:, 1], None if header is None else own[:, 2]))
        return TopicTimes(topic, table[:, 0], table[:, 1], header, tuple(drivers))


_SIZE_NOTES = 3


def _by_time(row: tuple[int, int, int, int]) -> tuple[int, int]:
    return row[1], row[0]


def _check_topics(bag: Path, sources: list[Source], topics: Mapping[str, str]) -> None:
    for source in sources:
        if source.topic not in topics and source.required:
            raise DatasetError(
                f"{bag}: lacks the topic {source.topic} of '{source.key}'; "
                f"it holds {', '.join(sorted(topics))[:500] or 'no message'}."
                f"{nearest_name(source.topic, topics)}"
            )
        if source.required and topics.get(source.topic, source.type) != source.type:
            raise DatasetError(
                f"{bag}: {source.topic} holds {topics[source.topic]}, "
                f"the contract's '{source.key}' expects {source.type}."
            )


def _check_messages(bag: Path, sources: list[Source], times: Mapping[str, TopicTimes], clock: ClockMode) -> None:
    for source in sources:
        if not source.required:
            continue
        found = times.get(source.topic)
        refused = ""
        if found is not None and source.by_header and clock != "receive" and found.header_ns is not None:
            if found.header_ns.any():
                continue
            refused = (
                f" ({len(found.header_ns)} had no usable header stamp; --clock receive takes the time of receiving)"
            )
        elif found is not None:
            continue
        raise DatasetError(
            f"{bag}: '{source.key}' has no message with a time on {source.topic}{refused}; was the sensor running?"
        )


def _stamp(message: BagMessage) -> int:
    """Header stamp in ns, 0 where there is none to use; of transforms, that of the first one."""
    try:
        raw = message.raw
        return max(0, first_transform(raw)[0] if message.type == TF_MESSAGE else header_stamp_ns(raw))
    except DecodeError:
        return 0
