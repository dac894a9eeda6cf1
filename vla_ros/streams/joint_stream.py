"""The joints of one topic, which several drivers may share: the newest value per joint, with its age. No ROS import.

An arm's and a gripper's driver both publish on ``/joint_states``, each its own joints and each with stamps of its own.
So every joint has its own samples: a message updates the joints that it carries and no other, and what it does not
carry is not missing from it. A joint that no message carried within `max_age_s` is missing, by its name.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from vla_ros.data_types import NANOSECONDS, Array, nearest_name
from vla_ros.data_types.foreign_text import listed, plain
from vla_ros.messages.forms.joints import carried_joints
from vla_ros.resampling import Gap, SampleBuffer, Stamped, hold, interpolate, nearest
from vla_ros.streams.late_samples import first_name
from vla_ros.streams.stream import Sample, Stream, StreamStatus

_MAX_SEEN = 256
"""Names of joints remembered for messages; a sender must not decide how many."""


class JointStream(Stream):
    """As `Stream`, for JointStates.

    Args:
        joints: Names in the messages, in the order of the value.
        field: Which array: ``position``, ``velocity`` or ``effort``.
        decode: Message → numbers [S], NaN where the message does not carry a joint; never used there.
        **stream: As `Stream`.
    """

    def __init__(self, joints: Sequence[str], field: str, decode: Callable[[Any], Array], **stream: Any) -> None:
        super().__init__(decode=decode, **stream)
        self._joints, self._field = tuple(joints), field
        self._index = {joint: index for index, joint in enumerate(self._joints)}
        self._buffers = tuple(SampleBuffer(self._buffer.span_ns) for _ in self._joints)
        self._refusals: dict[int, str] = {}
        self._seen: dict[str, bool] = {}  # name in a message → whether a message had values for it

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample of the joint that is oldest, None while there is none of one."""
        newest = [buffer.newest_ns for buffer in self._buffers]
        return None if None in newest else min(stamp for stamp in newest if stamp is not None)

    def newest(self) -> tuple[int, Array] | None:
        """Return each joint's newest value and the stamp of the oldest of them; None while a joint has none.

        Raises:
            DecodeError: A sample does not hold what the contract says.
        """
        samples = [None if b.newest_ns is None else b.before(b.newest_ns) for b in self._buffers]
        known = [sample for sample in samples if sample is not None]
        if len(known) < len(samples):
            return None
        values = [self._value(sample.payload)[index] for index, sample in enumerate(known)]
        return min(sample.stamp_ns for sample in known), np.array(values)

    def reached(self, tick_ns: int) -> bool:
        """Whether nothing that can still come changes the value at the tick."""
        newest_ns = self.newest_ns
        return newest_ns is not None and newest_ns >= tick_ns

    def value_at(self, tick_ns: int) -> Array | Gap:
        """Return each joint's value at a tick, or which joints have none.

        Raises:
            DecodeError: A sample that the tick uses does not hold what the contract says.
        """
        if self._method == "interpolate":
            return self._interpolated(partial(self._joints_at, tick_ns, self._between))
        return self._joints_at(tick_ns, self._sampled)

    def age_ns(self, tick_ns: int) -> int | None:
        """How long before the tick the joint that is oldest was sampled, None when one never was."""
        ages = [self._age_of(index, tick_ns) for index in range(len(self._joints))]
        return None if None in ages else max(age for age in ages if age is not None)

    def discard_before(self, stamp_ns: int) -> None:
        """Forget the samples that are older than a stamp."""
        for buffer in self._buffers:
            buffer.discard_before(stamp_ns)

    def clear(self) -> None:
        """Forget the samples; counters stay."""
        for buffer in self._buffers:
            buffer.clear()
        self._refusal = ""
        self._refusals.clear()
        self._assembled_ns = None
        self._meter.clear()

    def status(self, now_ns: int) -> StreamStatus:
        """Return the counters, and of each joint how long ago its newest sample was taken."""
        newest = {joint: buffer.newest_ns for joint, buffer in zip(self._joints, self._buffers, strict=True)}
        ages = {j: float("inf") if ns is None else (now_ns - ns) / NANOSECONDS for j, ns in newest.items()}
        return replace(super().status(now_ns), parts=tuple(ages.items()))

    @property
    def _overflows(self) -> int:
        return max((buffer.overflows for buffer in self._buffers), default=0)

    def _store(self, raw: bytes, stamp_ns: int, receive_ns: int) -> bool:
        """Keep a message for the joints that it carries; refuse it when all of them have a newer one."""
        carried = self._carried(raw)
        sample, n_bytes = Sample(raw), max(len(raw), self._value_bytes)
        before = [self._buffers[i].newest_ns for i in carried]
        taken = [self._buffers[i].push(stamp_ns, sample, receive_ns, n_bytes // len(carried)) for i in carried]
        for index, was_taken in zip(carried, taken, strict=True):
            if was_taken:
                self._refusals.pop(index, None)
        if any(taken):
            self._meter.add(receive_ns - stamp_ns, self._joints[carried[0]])
        if any(t and self._is_late(stamp_ns, b, self._assembled_ns) for t, b in zip(taken, before, strict=True)):
            self._note_late(first_name(carried_joints(raw, self._field)[0]), stamp_ns, self._assembled_ns)
        return not carried or any(taken)

    def _refuse(self, raw: bytes, sentence: str) -> None:
        for index in self._carried(raw):
            self._refusals[index] = sentence

    def _carried(self, raw: bytes) -> list[int]:
        """Return which of the joints a message gives values for."""
        names, has_values = carried_joints(raw, self._field)
        for name in names:
            if name in self._seen or len(self._seen) < _MAX_SEEN:
                self._seen[name] = has_values or self._seen.get(name, False)
        return [self._index[name] for name in dict.fromkeys(names) if name in self._index] if has_values else []

    def _sampled(self, index: int, tick_ns: int) -> Any:
        buffer = self._buffers[index]
        chosen = (nearest if self._method == "nearest" else hold)(buffer, tick_ns, self.max_age_ns)
        return self._value(chosen.payload)[index] if isinstance(chosen, Stamped) else chosen

    def _between(self, index: int, tick_ns: int) -> Any:
        def value_of(sample: Sample) -> Array:
            return self._value(sample)[index : index + 1]

        value = interpolate(self._buffers[index], tick_ns, self.max_age_ns, value_of, self._blend)
        return value if isinstance(value, Gap) else value[0]

    def _joints_at(self, tick_ns: int, value_of: Callable[[int, int], Any]) -> Array | Gap:
        values = [value_of(index, tick_ns) for index in range(len(self._joints))]
        gaps = {index: value for index, value in enumerate(values) if isinstance(value, Gap)}
        return self._gap(gaps, tick_ns) if gaps else np.array(values)

    def _age_of(self, index: int, tick_ns: int) -> int | None:
        sample = self._buffers[index].before(tick_ns)
        return None if sample is None else tick_ns - sample.stamp_ns

    def _gap(self, gaps: dict[int, Gap], tick_ns: int) -> Gap:
        """Say which joints have no value, and why."""
        ages = [gap.age_ns for gap in gaps.values()]
        age_ns = None if None in ages else max(age for age in ages if age is not None)
        refusal = next((self._refusals[index] for index in gaps if index in self._refusals), self._refusal)
        if refusal:
            return Gap(refusal, age_ns)
        if len(gaps) == len(self._joints) and (age_ns is not None or not self._seen):
            return self._of_all(gaps, age_ns)
        return Gap("; ".join(self._why(gaps, tick_ns)), age_ns)

    def _of_all(self, gaps: dict[int, Gap], age_ns: int | None) -> Gap:
        """All joints are missing, as when the one driver falls silent: the topic is, not its joints."""
        reasons = {gap.reason for gap in gaps.values()}
        if any(buffer.overflowing for buffer in self._buffers):
            return Gap(self._overflowing(max(len(buffer) for buffer in self._buffers)), age_ns)
        return Gap(reasons.pop() if len(reasons) == 1 else "stale", age_ns)

    def _why(self, gaps: dict[int, Gap], tick_ns: int) -> list[str]:
        """Return a clause for each kind of reason, with the joints that it holds for."""
        clauses: dict[str, list[str]] = {}
        for index, gap in gaps.items():
            joint, age_ns = self._joints[index], self._age_of(index, tick_ns)
            if gap.reason not in ("silent", "stale"):
                clause = gap.reason
            elif age_ns is not None:
                clause = f"last carried {age_ns / NANOSECONDS:.3f} s before"
            elif self._seen.get(joint) is False:
                clause = f"named by messages that have no {self._field} for it"
            elif joint in self._seen:
                clause = "not carried yet"
            else:
                names = list(map(plain, self._seen))
                clause = f"not among the joints that messages name, {listed(names)}{nearest_name(joint, names)}"
            clauses.setdefault(clause, []).append(f"'{joint}'")
        return [f"joint {', '.join(joints)}: {clause}" for clause, joints in clauses.items()]
