"""Samples that came after a tick they belong to was assembled: what they are, and leaving them out again. No ROS.

A live node cannot wait for ever; what it decided on then lacks a sample that a bag holds. Every such sample is noted
with the newest tick that was assembled without it. Whoever reads the bag with that list sees what the node saw.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class LateSample(NamedTuple):
    """A sample that came too late for a tick.

    Attributes:
        topic: ROS topic.
        part: Whose it is on a topic that several publishers share: its first joint or child frame; else empty.
        stamp_ns: Of the sample, ns.
        missed_ns: The newest tick that was assembled before it came, ns; all later ticks may have used it.
    """

    topic: str
    part: str
    stamp_ns: int
    missed_ns: int


class LateSamples(Generic[Item]):
    """Keeps late samples back until the ticks that missed them are assembled. Those behind them keep their order.

    Args:
        late: Which.
    """

    def __init__(self, late: Iterable[LateSample]) -> None:
        self._missed = {(item.topic, item.part, item.stamp_ns): item.missed_ns for item in late}
        self._waiting: dict[tuple[str, str], deque[tuple[int, Item]]] = {}

    def keeps_back(self, topic: str, part: str, stamp_ns: int, tick_ns: int, item: Item) -> bool:
        """Take a sample that missed the tick that comes next, or stands behind one that did; return whether it was."""
        missed_ns = self._missed.get((topic, part, stamp_ns), 0)
        before = self._waiting.get((topic, part))
        if missed_ns < tick_ns and not before:
            return False
        self._waiting.setdefault((topic, part), deque()).append((missed_ns, item))
        return True

    def due(self, tick_ns: int) -> list[Item]:
        """Return the samples that the tick that comes next did not miss any more, each publisher's in order."""
        items = []
        for waiting in self._waiting.values():
            while waiting and waiting[0][0] < tick_ns:
                items.append(waiting.popleft()[1])
        return items


def first_name(names: Sequence[str]) -> str:
    """Return the part of a sample that carries joints or frames of these names."""
    return names[0] if names else ""
