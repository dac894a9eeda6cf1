"""One clock for a whole bag, decided before anything is aligned: header stamps held against receive times.

A header stamp says when a sensor measured, a receive time when the recorder got the message. Their difference is the
transport delay plus the difference of two clocks, and only the latter may be large. Numbers only, no messages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS, DatasetError

ClockMode = Literal["auto", "header", "receive"]
Ranges = dict[str, tuple[int, int]]
"""Topic → first of its messages, and the one after the last."""

LONGEST_SILENCE_S = 600
"""A longer time between two messages of a topic is a clock that was set, not a pause within a motion."""
_NEIGHBOURS = 25
"""Messages on either side of a step whose delays say whether it lasts."""
_LASTS_S = 3.0
_SAME_EVENT_S = 2.0
_MOST_STEPS = 5
_LEAST_QUARTER = 10
_CERTAIN_LEAP_NS = NANOSECONDS // 2
"""By how much the delays of all topics grow at once, and stay so, that it is no load but the recorder's clock."""
_DELAY_PERCENTILE = 10
"""Of a topic's delays, taken for the difference of its clocks: the least transport delay, but for a few bad stamps."""


@dataclass(frozen=True)
class TopicTimes:
    """When the messages of one topic were stamped and received, in the order in which they were written.

    Attributes:
        topic: ROS topic.
        ordinals: Place of each message in the bag, int64 [N], rising.
        receive_ns: int64 [N].
        header_ns: int64 [N], 0 without a stamp to use; None where the topic's time is that of receiving.
        drivers: Where several computers or drivers may share the topic, the messages of each that matters; their clocks
            are looked at then, and the topic's is not.
    """

    topic: str
    ordinals: NDArray[np.int64]
    receive_ns: NDArray[np.int64]
    header_ns: NDArray[np.int64] | None
    drivers: tuple["TopicTimes", ...] = ()

    @property
    def clocks(self) -> tuple["TopicTimes", ...]:
        """Those whose clocks are compared."""
        return self.drivers or (self,)


@dataclass(frozen=True)
class ClockSegment:
    """A stretch of a bag in which the clocks run on.

    Attributes:
        ranges: The messages of each topic.
        offset_ns: Receive clock minus header clock; 0 when they are one, or only one counts.
        offsets_s: Topic → its own receive time minus header stamp, the least of it.
        begins: Why it does not begin with the bag; empty for the first.
        refused: Why its clocks do not belong together; empty where they do.
    """

    ranges: Ranges
    offset_ns: int
    offsets_s: dict[str, float]
    begins: str = ""
    refused: str = ""


@dataclass(frozen=True)
class _Step:
    topic: str
    index: int  # of the first message after it
    ordinal: int  # of that message
    before_ns: int  # receive time of the message before it
    says: str


def decide_clock(topics: Sequence[TopicTimes], mode: ClockMode, limit_ns: int, place: str) -> list[ClockSegment]:
    """Split a bag where a clock steps, and decide for every part how its clocks belong together.

    Args:
        topics: Those that are aligned with each other.
        mode: ``header``: stamps are right, whatever their delays; ``receive``: stamps do not count; ``auto``: stamps
            count, and must agree.
        limit_ns: The most by which the topics' clocks may differ, and the least that is a step.
        place: The bag, for messages.

    Returns:
        The stretches between the steps; those in which topics differ by more than the limit are marked as refused.

    Raises:
        DatasetError: Topics differ in all of them; names the offset of each and what to do.
    """
    counted = [topic for topic in topics if len(topic.ordinals)]
    if mode == "receive":
        counted = [TopicTimes(t.topic, t.ordinals, t.receive_ns, None) for t in counted]
    clocks = [clock for topic in counted for clock in topic.clocks if len(clock.ordinals)]
    steps = [step for clock in clocks for step in _steps(clock, limit_ns)]
    has_unstamped = any(clock.header_ns is None for clock in clocks)
    steps += _recorder_steps(clocks, steps, limit_ns if has_unstamped else max(limit_ns, _CERTAIN_LEAP_NS))
    segments = []
    for ranges, begins in _ranges(counted, steps):
        within = [part for topic in counted for part in _within(topic, ranges)]
        offsets = _offsets(within)
        refused = (_disagree(offsets, limit_ns) or _drift(within, limit_ns)) if mode == "auto" else ""
        least = min(offsets.values(), default=0)
        offset_ns = least if abs(least) > limit_ns else 0
        named = {name: offset / NANOSECONDS for name, offset in offsets.items()}
        segments.append(ClockSegment(ranges, offset_ns, named, begins, refused))
    if segments and all(segment.refused for segment in segments):
        raise DatasetError(f"{place}: {max(segments, key=_n_messages).refused}")
    return segments


def _n_messages(segment: ClockSegment) -> int:
    return sum(end - begin for begin, end in segment.ranges.values())


def _within(topic: TopicTimes, ranges: Ranges) -> list[TopicTimes]:
    """Return the clocks of a topic, cut to the messages of a segment."""
    begin, end = ranges[topic.topic]
    if begin >= end:
        return []
    first, last = int(topic.ordinals[begin]), int(topic.ordinals[end - 1])
    parts = []
    for clock in topic.clocks:
        own = slice(*np.searchsorted(clock.ordinals, [first, last + 1]))
        header = None if clock.header_ns is None else clock.header_ns[own]
        parts.append(TopicTimes(clock.topic, clock.ordinals[own], clock.receive_ns[own], header))
    return parts


def order_to_read(topics: Sequence[TopicTimes]) -> Literal["file", "time"]:
    """Say in which order a bag's messages came: that of the file, unless its topics were written one after the other.

    Sorted by time, a clock that was set back mixes what came after with what came before, so the file's order is
    taken where it can be.
    """
    if not topics or not sum(len(topic.ordinals) for topic in topics):
        return "file"
    back = [int((np.diff(t.receive_ns) < -round(0.05 * NANOSECONDS)).sum()) for t in topics]
    if max(back) > _MOST_STEPS:
        return "time"
    if any(back):
        return "file"
    order = np.argsort(np.concatenate([t.ordinals for t in topics]), kind="stable")
    times = np.concatenate([t.receive_ns for t in topics])[order]
    apart_ns = int((np.maximum.accumulate(times) - times).max())
    return "time" if apart_ns > _SAME_EVENT_S * NANOSECONDS else "file"


def _steps(topic: TopicTimes, limit_ns: int) -> list[_Step]:
    """Find where a topic's clocks are set: receive times that go back, both that leap, stamps that leave them."""
    receive, header = topic.receive_ns, topic.header_ns
    found: dict[int, str] = {}
    moved = np.diff(receive)
    pace_ns = max(0.0, float(np.median(moved))) if len(moved) else 0.0
    for i in np.flatnonzero((moved < 0) & (moved - pace_ns < -limit_ns)):
        found[int(i) + 1] = f"the recorder's clock steps back by {_seconds(pace_ns - moved[i])}"
    for i in np.flatnonzero(moved > LONGEST_SILENCE_S * NANOSECONDS):
        found[int(i) + 1] = f"the clock jumps forward by {_seconds(moved[i])}"
    if header is not None:
        valid = np.flatnonzero(header)
        for i, size in _header_steps(receive[valid], header[valid], limit_ns):
            index = int(valid[i])
            direction = "back" if size < 0 else "forward"
            found.setdefault(index, f"header stamps step {direction} by {_seconds(abs(size))}")
    return [
        _Step(topic.topic, i, int(topic.ordinals[i]), int(receive[i - 1]), f"{says} on {topic.topic}")
        for i, says in sorted(found.items())
    ]


def _header_steps(receive: NDArray[np.int64], header: NDArray[np.int64], limit_ns: int) -> list[tuple[int, int]]:
    """Return (index, size in ns) of lasting steps of the stamps against the receive times.

    A delay that grows because messages queue up looks alike, but there it is the receive times that leave their pace.
    """
    if len(header) < 2:
        return []
    delay = receive - header
    jumps, moved, arrived = np.diff(delay), np.diff(header), np.diff(receive)
    pace_ns = max(0.0, float(np.median(arrived)))
    result = []
    for i in np.flatnonzero(np.abs(jumps) > limit_ns):
        before, after = delay[max(0, i + 1 - _NEIGHBOURS) : i + 1], delay[i + 1 : i + 1 + _NEIGHBOURS]
        shift_ns = float(np.median(after)) - float(np.median(before))
        lasts = abs(shift_ns) > limit_ns and abs(shift_ns - jumps[i]) < 0.5 * abs(jumps[i]) and _apart(before, after)
        enough = abs(jumps[i]) > LONGEST_SILENCE_S * NANOSECONDS or _tell(before, after, int(jumps[i]))
        by_stamp = moved[i] <= 0 or abs(float(arrived[i]) - pace_ns) < 0.5 * abs(jumps[i])
        if lasts and enough and by_stamp and arrived[i] >= 0:
            result.append((int(i) + 1, -int(jumps[i])))
    return result


def _tell(before: NDArray[np.int64], after: NDArray[np.int64], jump_ns: int) -> bool:
    """Whether there are enough delays on both sides of a jump to tell it from their usual spread."""
    spread_ns = max(float(np.ptp(np.percentile(delays, [10, 90]))) for delays in (before, after))
    return min(len(before), len(after)) >= (2 if abs(jump_ns) > 4 * spread_ns else 10)


def _apart(before: NDArray[np.int64], after: NDArray[np.int64]) -> bool:
    """Whether hardly any of two sets of delays overlap, as they do where messages merely take longer at times."""
    lower, upper = (before, after) if np.median(before) < np.median(after) else (after, before)
    return bool(np.percentile(upper, 10) > np.percentile(lower, 90))


def _recorder_steps(topics: Sequence[TopicTimes], known: Sequence[_Step], limit_ns: int) -> list[_Step]:
    """Find where the recorder's clock alone leaps forward: the delays of all stamped topics grow alike, and stay so.

    It matters where topics without stamps stand beside them, whose only time is that of receiving.
    """
    stamped = [t for t in topics if t.header_ns is not None and int((t.header_ns > 0).sum()) > 2 * _NEIGHBOURS]
    candidates: list[list[_Step]] = []
    for topic in stamped:
        assert topic.header_ns is not None  # noqa: S101 - chosen so
        valid = np.flatnonzero(topic.header_ns)
        receive = topic.receive_ns[valid]
        delay = receive - topic.header_ns[valid]
        own = []
        for i in np.flatnonzero(np.diff(delay) > limit_ns):
            later = (receive[i + 1 :] - receive[i + 1]) < _LASTS_S * NANOSECONDS
            grown_ns = int(delay[i + 1 :][later].min()) - int(np.median(delay[max(0, i + 1 - _NEIGHBOURS) : i + 1]))
            index = int(valid[i + 1])
            if grown_ns > limit_ns and index not in {s.index for s in known if s.topic == topic.topic}:
                says = f"the recorder's clock jumps forward by {_seconds(grown_ns)} on {topic.topic}"
                own.append(_Step(topic.topic, index, int(topic.ordinals[index]), int(receive[i]), says))
        candidates.append(own)
    if not candidates or not all(candidates):
        return []
    first = candidates[0]
    found = [step for own in candidates for step in own if any(_same_event(step, other) for other in first)]
    for topic in topics:
        if topic.header_ns is None:
            found += _silences(topic, first, limit_ns)
    return found


def _silences(topic: TopicTimes, events: Sequence[_Step], limit_ns: int) -> list[_Step]:
    """Find the messages of a topic without stamps between which a recorder's clock leapt."""
    found = []
    moved, before = np.diff(topic.receive_ns), topic.receive_ns[:-1]
    for event in events:
        near = np.flatnonzero(np.abs(before - event.before_ns) < _SAME_EVENT_S * NANOSECONDS)
        if len(near) and moved[near].max() > limit_ns:
            i = int(near[np.argmax(moved[near])])
            found.append(_Step(topic.topic, i + 1, int(topic.ordinals[i + 1]), int(before[i]), event.says))
    return found


def _same_event(step: _Step, other: _Step) -> bool:
    return abs(step.before_ns - other.before_ns) < _SAME_EVENT_S * NANOSECONDS


def _ranges(topics: Sequence[TopicTimes], steps: Sequence[_Step]) -> list[tuple[Ranges, str]]:
    """Cut every topic at every step; steps of several topics at one moment are one."""
    events: list[list[_Step]] = []
    for step in sorted(steps, key=lambda step: step.ordinal):
        event = events[-1] if events else []
        if event and _same_event(step, event[0]) and step.topic not in {other.topic for other in event}:
            event.append(step)
        else:
            events.append([step])
    cuts: list[tuple[dict[str, int], str]] = [({topic.topic: 0 for topic in topics}, "")]
    for event in events:
        own = {step.topic: step.ordinal for step in reversed(event)}
        first = min(own.values())
        cut = {}
        for topic in topics:
            ordinal = min((own[clock.topic] for clock in topic.clocks if clock.topic in own), default=first)
            cut[topic.topic] = int(np.searchsorted(topic.ordinals, ordinal))
        cut = {name: max(index, cuts[-1][0][name]) for name, index in cut.items()}
        cuts.append((cut, _says(event)))
    ends = [cut for cut, _ in cuts[1:]] + [{topic.topic: len(topic.ordinals) for topic in topics}]
    return [
        ({name: (begin, end[name]) for name, begin in cut.items()}, says)
        for (cut, says), end in zip(cuts, ends, strict=True)
    ]


def _says(event: Sequence[_Step]) -> str:
    others = [step.topic for step in event[1:]]
    named = f" and {len(others)} other topics" if len(others) > 1 else "".join(f" and {topic}" for topic in others)
    return event[0].says + named


def _delays(clock: TopicTimes) -> NDArray[np.int64]:
    if clock.header_ns is None:
        return np.zeros(0, np.int64)
    return np.asarray((clock.receive_ns - clock.header_ns)[clock.header_ns != 0], np.int64)


def _offsets(clocks: Sequence[TopicTimes]) -> dict[str, int]:
    """Return how far the receive times of each lie behind its stamps at the least, in ns."""
    delays = {clock.topic: _delays(clock) for clock in clocks}
    return {
        name: int(np.percentile(values, _DELAY_PERCENTILE, method="lower"))
        for name, values in delays.items()
        if len(values)
    }


def _disagree(offsets: Mapping[str, int], limit_ns: int) -> str:
    """Say that clocks differ, with the offset of each and what to do; empty where they do not."""
    if not offsets or max(offsets.values()) - min(offsets.values()) <= limit_ns:
        return ""
    each = ", ".join(f"{topic} {_seconds(value)}" for topic, value in sorted(offsets.items(), key=lambda item: item[1]))
    return (
        f"the clocks of its topics differ: header stamps lie behind the time of receiving by {each}, and may "
        f"differ by {_seconds(limit_ns)}; set the computers' clocks by one time server and record again, align by the "
        "time of receiving with --clock receive, or, where the stamps are right, by them with --clock header."
    )


def _drift(clocks: Sequence[TopicTimes], limit_ns: int) -> str:
    """Say that clocks are of different speed; empty where they are of one.

    Topics without stamps are on the recorder's clock, and so have no drift.
    """
    drifts: dict[str, float] = {}
    for clock in clocks:
        delays = _delays(clock)
        quarter = len(delays) // 4
        if clock.header_ns is None:
            drifts[clock.topic] = 0.0
        elif quarter >= _LEAST_QUARTER:
            ends = (delays[:quarter], delays[-quarter:])
            first, last = (float(np.percentile(part, _DELAY_PERCENTILE, method="lower")) for part in ends)
            drifts[clock.topic] = last - first
    if not drifts or max(drifts.values()) - min(drifts.values()) <= limit_ns:
        return ""
    each = ", ".join(f"{topic} {_seconds(value)}" for topic, value in sorted(drifts.items(), key=lambda item: item[1]))
    return (
        "the clocks of its topics run at different speeds: from its first quarter to its last, header stamps move "
        f"away from the time of receiving by {each} (0 without stamps), and may differ by {_seconds(limit_ns)}; set "
        "the computers' clocks by one time server and record again, or align by the time of receiving with --clock "
        "receive."
    )


def _seconds(ns: float) -> str:
    return f"{ns / NANOSECONDS:.3f} s"
