"""Lists of late samples in files: of a conversion's report, or recorded from a policy node's ``~/late_samples``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.bags import Bag, is_bag
from vla_ros.converters.timing import StreamTimes
from vla_ros.data_types import DatasetError
from vla_ros.streams import LateSample

TYPE, SUFFIX = "diagnostic_msgs/msg/DiagnosticArray", "/late_samples"
"""The topic on which a policy node publishes its list."""


@dataclass(frozen=True)
class LateList:
    """Late samples, by the bag they are of.

    Attributes:
        source: Where they were read.
        samples: Of any bag.
        by_bag: Bag's path → its own, where the source tells them apart.
    """

    source: Path
    samples: tuple[LateSample, ...] = ()
    by_bag: dict[str, tuple[LateSample, ...]] = field(default_factory=dict)

    def of(self, bag: Path) -> tuple[LateSample, ...]:
        """Return the late samples of a bag.

        Raises:
            DatasetError: The list tells bags apart, and this one is not among them.
        """
        if not self.by_bag:
            return self.samples
        own = [late for path, late in self.by_bag.items() if Path(path).resolve() == bag.resolve()]
        own = own or [late for path, late in self.by_bag.items() if Path(path).name == bag.resolve().name]
        if len(own) != 1:
            names = ", ".join(sorted(Path(path).name for path in self.by_bag))
            found = "several bags of the name" if own else "nothing of"
            raise DatasetError(f"{self.source}: tells {found} {bag}, only of {names[:300]}; give the list of that bag.")
        return own[0]


def read_late_list(path: Path) -> LateList:
    """Read a list of late samples.

    Args:
        path: A conversion's ``conversion_report.json``, or a bag into which a policy node's ``~/late_samples`` was
            recorded.

    Raises:
        DatasetError: It is neither, or damaged.
    """
    if not path.exists():
        raise DatasetError(f"{path}: no such list of late samples.")
    if is_bag(path):
        return LateList(path, tuple(_recorded(path)))
    try:
        episodes = json.loads(path.read_text(encoding="utf-8"))["episodes"]
        by_bag: dict[str, tuple[LateSample, ...]] = {}
        for episode in episodes:
            own = tuple(_sample(entry) for entry in episode["late_samples"])
            by_bag[str(episode["bag"])] = by_bag.get(str(episode["bag"]), ()) + own
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as reason:
        said = f"it lacks {reason}" if isinstance(reason, KeyError) else " ".join(str(reason).split())[:200]
        raise DatasetError(
            f"{path}: not a list of late samples ({said}); expected a conversion_report.json, or a bag with a policy "
            f"node's ~{SUFFIX}."
        ) from reason
    return LateList(path, by_bag=by_bag)


def unknown(late: Sequence[LateSample], streams: Sequence[StreamTimes], source: Path) -> int:
    """Return how many late samples within a stretch of a bag are none of its streams'.

    Raises:
        DatasetError: None is: the list is of another recording.
    """
    stamps = {
        topic: {int(ns) for stream in streams if stream.source.topic == topic for ns in stream.stamps_ns}
        for topic in {stream.source.topic for stream in streams if stream.source.by_header}
    }
    own = [
        (item.topic, item.stamp_ns)
        for item in late
        if stamps.get(item.topic) and min(stamps[item.topic]) <= item.stamp_ns <= max(stamps[item.topic])
    ]
    lost = [(topic, ns) for topic, ns in own if ns not in stamps[topic]]
    if own and len(lost) == len(own):
        raise DatasetError(
            f"{source}: none of its {len(own)} late samples is in the bag, the first not that on {lost[0][0]} stamped "
            f"{lost[0][1]} ns; the list is of another recording."
        )
    return len(lost)


def _sample(entry: Any) -> LateSample:
    late = LateSample(**entry)
    if not (isinstance(late.topic, str) and isinstance(late.part, str)):
        raise TypeError("topic and part must be texts")
    if not (type(late.stamp_ns) is int and type(late.missed_ns) is int):
        raise TypeError("stamp_ns and missed_ns must be whole numbers")
    return late


def _recorded(path: Path) -> list[LateSample]:
    with Bag(path) as bag:
        topics = [topic for topic, kind in bag.topics.items() if kind == TYPE and topic.endswith(SUFFIX)]
        if len(topics) != 1:
            there = f"{len(topics)} topics" if topics else "no topic"
            raise DatasetError(f"{path}: has {there} …{SUFFIX} ({TYPE}) of a policy node; record its ~{SUFFIX} too.")
        found = []
        for message in bag.messages(topics):
            for status in bag.deserialize(message.raw, message.type).status:
                found += [_entry(path, status.name, pair.key, pair.value) for pair in status.values]
    return found


def _entry(path: Path, topic: str, key: str, value: str) -> LateSample:
    """Read a pair as `vla_ros.nodes.policy.status.late_message` writes it: part@stamp → newest tick that missed it."""
    part, _, stamp = key.rpartition("@")
    if not (stamp.isdigit() and value.isdigit()):
        raise DatasetError(f"{path}: '{key[:60]}: {value[:60]}' is no late sample; expected PART@STAMP_NS: TICK_NS.")
    return LateSample(topic, part, int(stamp), int(value))
