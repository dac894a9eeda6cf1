"""Serialised messages in, frames at ticks out: the one way to an observation, live and from a bag. No ROS import.

A frame is a function of the contract, of the messages pushed and of the tick. Nothing here looks at a clock.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from vla_ros.contract import (
    INSTRUCTION,
    NEVER_TOO_OLD_S,
    AlignmentSpec,
    InputSpec,
    QosSpec,
    RobotContract,
    TransformSpec,
)
from vla_ros.contract.types import INPUT_TYPES
from vla_ros.data_types import NANOSECONDS, Array, DecodeError, Frame
from vla_ros.messages.decoders import decode_input, decode_some_joints
from vla_ros.messages.types.tf2_msgs import FIELDS
from vla_ros.resampling import Gap
from vla_ros.streams.blending import input_blend
from vla_ros.streams.frozen import FrozenWatch
from vla_ros.streams.joint_stream import JointStream
from vla_ros.streams.latched_stream import LatchedStream
from vla_ros.streams.late_samples import LateSample
from vla_ros.streams.stream import Deserialize, Stream, StreamStatus
from vla_ros.streams.transform_stream import TransformStream

_ANY_TIME = -(2**62)  # a wait that is over at any time


@dataclass(frozen=True)
class MissingInput:
    """An input without a value at a tick.

    Attributes:
        key: Feature key.
        topic: ROS topic.
        age_s: Since its newest sample was taken, at the tick; inf when there is none.
        max_age_s: The limit.
        reason: ``silent``, ``stale``, or a sentence that says what is wrong with its messages.
        on_missing: What the contract wants done meanwhile: ``hold``, ``stop`` or ``abort``.
        needed: Whether there is no frame without it.
    """

    key: str
    topic: str
    age_s: float
    max_age_s: float
    reason: str
    on_missing: str
    needed: bool = True

    def __str__(self) -> str:
        if self.max_age_s >= NEVER_TOO_OLD_S:  # latched: it has no age
            return f"'{self.key}': " + (f"nothing received on {self.topic}" if self.reason == "silent" else self.reason)
        if self.reason == "silent":
            return f"'{self.key}': nothing received on {self.topic} (limit {self.max_age_s:g} s)"
        if self.reason == "stale":
            return f"'{self.key}': last sample on {self.topic} is {self.age_s:.3f} s old (limit {self.max_age_s:g} s)"
        return f"'{self.key}': {self.reason} (age {self.age_s:.3f} s, limit {self.max_age_s:g} s)"


@dataclass(frozen=True)
class Assembled:
    """The outcome of one tick.

    Attributes:
        frame: The frame, None exactly when a needed input is missing.
        missing: Every input without a value, the optional ones among them too.
    """

    frame: Frame | None
    missing: tuple[MissingInput, ...]


class ObservationPipeline:
    """Turns messages into frames.

    `push` may be called from any thread, everything else from one thread at a time. Samples are kept for as long as
    a tick can need them plus a second: assemble each tick when it is complete, not after all messages were pushed.

    Args:
        contract: The robot.
        deserialize: Bytes to message: `rclpy_deserialize.deserialize`, or `bags.deserialize` without ROS.
        keys: Features that must be there, such as a policy's inputs; others are left out. None: all inputs, of which
            those that the contract requires must be there. ``task`` is the instruction: every frame then has the one
            that held at its tick.
        optional: Those of `keys` that a frame may lack.

    Attributes:
        specs: The streams to subscribe to; `push` counts them in this order, the latched ones after those that are
            sampled, and the topics of static transforms last.
        optional: Keys that a frame may lack.

    Raises:
        ContractError: A key is none of the contract's, or a stream cannot be interpolated as asked.
    """

    def __init__(
        self,
        contract: RobotContract,
        deserialize: Deserialize,
        keys: Collection[str] | None = None,
        optional: Collection[str] = (),
    ) -> None:
        for key in keys or ():
            if key != INSTRUCTION:
                contract.feature(key)
        wanted = contract.inputs if keys is None else [spec for spec in contract.streams if spec.key in keys]
        sampled = [spec for spec in wanted if not spec.is_latched]
        latched = [spec for spec in wanted if spec.is_latched]
        static = [_static_spec(spec, spec.transform) for spec in sampled if spec.transform is not None]
        self.specs: tuple[InputSpec, ...] = (*sampled, *latched, *static)
        # Joined streams stand or fall together: one that must be there makes its key needed
        self._needed = {s.key for s in self.specs if keys is not None or s.required} - set(optional)
        self.optional = frozenset(s.key for s in self.specs) - self._needed
        self._max_wait_ns = round(contract.max_wait_s * NANOSECONDS)
        self._streams = tuple(_stream(spec, contract, deserialize) for spec in sampled)
        transforms = [stream for stream in self._streams if isinstance(stream, TransformStream)]
        self._static = dict(zip(range(len(sampled) + len(latched), len(self.specs)), transforms, strict=True))
        self._latched = tuple(LatchedStream(spec, deserialize) for spec in latched)
        self._watches = tuple(FrozenWatch() for _ in sampled)

    def push(self, index: int, raw: bytes, receive_ns: int) -> None:
        """Take a serialised message of stream `index`, received at `receive_ns` of the node clock.

        Never decodes those that are sampled at ticks; latched ones as `LatchedStream.push`, whose errors it raises.
        """
        if index in self._static:
            self._static[index].push_static(raw, receive_ns)
        elif index < len(self._streams):
            self._streams[index].push(raw, receive_ns)
        else:
            self._latched[index - len(self._streams)].push(raw, receive_ns)

    def latched(self, key: str) -> LatchedStream:
        """Return the latched stream of a key, whose value holds over episodes.

        Raises:
            KeyError: There is none.
        """
        return next(stream for stream in self._latched if stream.spec.key == key)

    def newest(self, index: int) -> tuple[int, Array] | None:
        """Return stamp, ns, and value of the newest sample of stream `index`, whatever its age; None without one.

        Raises:
            DecodeError: That sample does not hold what the contract says.
        """
        return self._streams[index].newest()

    def complete(self, tick_ns: int, now_ns: int, *, by_delay: bool = False) -> bool:
        """Whether the frame of a tick can be assembled.

        True once every stream has a sample at or after the tick, so that nothing that still comes can change its
        frame, or when the contract's `max_wait_s` has passed since the tick. Optional streams that are not alive
        (no sample within their `max_age_s` before the tick) are not waited for.

        Args:
            tick_ns: The tick.
            now_ns: The time, on the clock that messages are received by.
            by_delay: Whether a stream also counts as settled when its messages used to be here by now. Only where that
                clock is the one that sensors are stamped by; simulated time stands still while messages travel.
        """
        return now_ns >= tick_ns + self.wait_ns(tick_ns, by_delay=by_delay)

    def wait_ns(self, tick_ns: int, *, by_delay: bool) -> int:
        """Return how long after a tick its frame can be assembled, by what has come, if nothing more does; in ns.

        A tick whose streams all have a sample at or after it can be assembled even before it is due.
        """
        return max((self._wait_ns(index, tick_ns, by_delay) for index in range(len(self._streams))), default=_ANY_TIME)

    def assemble(self, tick_ns: int, instruction: str = "") -> Assembled:
        """Build the frame of a tick, decoding only the samples that it uses and none of them twice.

        Args:
            tick_ns: The tick.
            instruction: What the robot is told to do at that tick, where ``task`` is none of the pipeline's keys.
        """
        parts: dict[str, list[Array]] = {}
        missing: list[MissingInput] = []
        values_at: list[Array | Gap] = [self._value(index, tick_ns) for index in range(len(self._streams))]
        values_at += [stream.value_at(tick_ns) for stream in self._latched]
        for spec, value in zip(self.specs, values_at, strict=False):  # the static topics have no value of their own
            if isinstance(value, Gap):
                missing.append(self._missing(spec, value))
            else:
                parts.setdefault(spec.key, []).append(value)
        absent = {item.key for item in missing}
        if any(item.needed for item in missing):
            return Assembled(None, tuple(missing))
        values = {key: _joined(arrays) for key, arrays in parts.items() if key not in absent}
        if INSTRUCTION in values:
            instruction = str(values.pop(INSTRUCTION))
        return Assembled(Frame(tick_ns, values, instruction), tuple(missing))

    def discard_before(self, stamp_ns: int) -> None:
        """Forget the samples that are older than a stamp: an episode begins there. May be called from any thread."""
        for stream in self._streams:
            stream.discard_before(stamp_ns)

    def clear(self) -> None:
        """Forget all samples: a new episode began or the clock jumped back. What is latched goes on to hold."""
        for stream, watch in zip(self._streams, self._watches, strict=True):
            stream.clear()
            watch.clear()
        for latched in self._latched:
            latched.forget_times()

    def stream_status(self, now_ns: int) -> tuple[StreamStatus, ...]:
        """Return what arrived, stream by stream in the order of `specs`."""
        sampled = [stream.status(now_ns) for stream in self._streams]
        latched = [stream.status(now_ns) for stream in self._latched]
        static = [stream.static_status(self.specs[index].topic) for index, stream in self._static.items()]
        return (*sampled, *latched, *static)

    def refuse_stamps_ahead(self, most_ns: int | None) -> None:
        """Refuse messages whose stamps are ahead of their arrival by more; None takes them."""
        for stream in self._streams:
            stream.most_ahead_ns = most_ns

    def warnings(self) -> list[tuple[str, str]]:
        """Return (topic, sentence) for what is odd about inputs that are used all the same."""
        found = []
        for spec, stream, watch in zip(self.specs, self._streams, self._watches, strict=False):
            found += [(spec.topic, sentence) for sentence in stream.warnings()]
            if 0 < spec.max_frozen_s < watch.frozen_s:
                found.append((spec.topic, f"{spec.topic} ({spec.key}): {_frozen(spec, watch)}"))
        return found

    def _value(self, index: int, tick_ns: int) -> Array | Gap:
        """Return a stream's value at a tick, unless it is one that hangs and the contract wants it to be missing."""
        spec, stream, watch = self.specs[index], self._streams[index], self._watches[index]
        value = _value(spec, stream, tick_ns)
        if isinstance(value, Gap) or not spec.max_frozen_s:
            return value
        age_ns = stream.age_ns(tick_ns) or 0
        watch.seen(tick_ns - age_ns, value)
        if spec.on_frozen == "stop" and watch.frozen_s > spec.max_frozen_s:
            return Gap(_frozen(spec, watch), age_ns)
        return value

    def take_late(self) -> list[LateSample]:
        """Return the samples that came after a tick of theirs was assembled, since the last call."""
        return [late for stream in self._streams for late in stream.take_late()]

    def _wait_ns(self, index: int, tick_ns: int, by_delay: bool) -> int:
        spec, stream = self.specs[index], self._streams[index]
        if stream.reached(tick_ns):
            return _ANY_TIME
        if spec.key not in self._needed:
            age_ns = stream.age_ns(tick_ns)
            if age_ns is None or age_ns > stream.max_age_ns:
                return _ANY_TIME
        settles_ns = stream.settles_ns if by_delay else None
        return self._max_wait_ns if settles_ns is None else min(settles_ns, self._max_wait_ns)

    def _missing(self, spec: InputSpec, gap: Gap) -> MissingInput:
        age_s = float("inf") if gap.age_ns is None else gap.age_ns / NANOSECONDS
        return MissingInput(
            spec.key, spec.topic, age_s, spec.max_age_s, gap.reason, spec.on_missing, spec.key in self._needed
        )


def _stream(spec: InputSpec, contract: RobotContract, deserialize: Deserialize) -> Stream:
    reach_s = contract.max_wait_s + (spec.window.samples * spec.window.period_s if spec.window else 0.0)
    common: dict[str, Any] = {
        "key": spec.key,
        "topic": spec.topic,
        "type_name": spec.type,
        "alignment": spec.alignment,
        "max_age_s": spec.max_age_s,
        "reach_s": reach_s,
        "deserialize": deserialize,
        "blend": input_blend(spec),
        "value_bytes": _value_bytes(spec),
        "has_window": spec.window is not None,
    }
    if spec.transform is not None:
        numbers = [FIELDS.index(field) for field in spec.fields]
        del common["blend"]
        return TransformStream(spec.transform, numbers, **common)
    if INPUT_TYPES[spec.type].form == "joints":
        return JointStream(spec.ros_names or spec.names, spec.fields[0], partial(decode_some_joints, spec), **common)
    return Stream(decode=partial(decode_input, spec), **common)


def _static_spec(spec: InputSpec, transform: TransformSpec) -> InputSpec:
    """Return the topic of the transforms that never change; a publisher sends each once, to whoever subscribes."""
    return replace(
        spec, topic=transform.static_topic, qos=QosSpec("reliable", "transient_local", 100), alignment=AlignmentSpec()
    )


def _value_bytes(spec: InputSpec) -> int:
    """Memory of one decoded message; compressed images and short scans grow."""
    shape = spec.shape[1:] if spec.window is not None else spec.shape
    return math.prod(shape) * (1 if spec.image is not None else 4)


def _value(spec: InputSpec, stream: Stream, tick_ns: int) -> Array | Gap:
    try:
        with stream.assembling(tick_ns):
            if spec.window is None:
                value = stream.value_at(tick_ns)
            else:
                value = stream.window_at(tick_ns, spec.window.samples, round(spec.window.period_s * NANOSECONDS))
    except DecodeError as reason:
        return Gap(str(reason), stream.age_ns(tick_ns))
    if isinstance(value, Gap) or spec.image is not None:
        return value
    return value.astype(np.float32, copy=False)  # interpolation works in float64


def _frozen(spec: InputSpec, watch: FrozenWatch) -> str:
    return (
        f"the same content under fresh stamps for {watch.frozen_s:.1f} s (max_frozen_s {spec.max_frozen_s:g}); its "
        "driver or sensor hangs"
    )


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
