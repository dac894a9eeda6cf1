"""One topic's recent samples: stamped and stored on arrival, decoded when a tick uses them. No ROS import."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from vla_ros.contract import AlignmentSpec
from vla_ros.contract.types import has_header
from vla_ros.data_types import NANOSECONDS, Array, DecodeError
from vla_ros.messages.decode_failures import decode_message, unforeseen
from vla_ros.messages.image_sizes import image_size
from vla_ros.messages.stamps import header_stamp_ns
from vla_ros.resampling import Blend, Gap, SampleBuffer, Stamped, hold, interpolate, nearest, window
from vla_ros.streams.delay import DelayMeter
from vla_ros.streams.late_samples import LateSample

Deserialize = Callable[[bytes, str], Any]
"""(CDR bytes, ``pkg/msg/Type``) → an object with the message's fields. Raises DecodeError on damaged bytes."""

SPAN_MARGIN_S = 1.0
"""How much longer than a tick can need samples are kept: the assembling thread may be late by this."""

_RATE_SAMPLES = 64
_AHEAD_NS = 10_000_000  # stamps ahead by more are told, where they are still used
_MAX_LATE = 4096  # late samples kept for whoever publishes them
_MAX_HELD = 4096  # messages that may come while a tick is assembled
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class StreamStatus:
    """What arrived on one topic.

    Attributes:
        key: Feature key.
        topic: ROS topic.
        count: Messages received since the start.
        rate_hz: Over the last messages; falls when they stop.
        age_s: Since the last message was received; inf when none was.
        drops: Messages refused because their stamp was not after the one before.
        decode_errors: Messages that did not hold what the contract says.
        unstamped: Messages refused because their header stamp is 0.
        overflows: Messages forgotten early, because more or larger ones came than are kept.
        late: Samples that came after a tick that would have used them was assembled.
        delay_s: From a sample's stamp to its arrival, the median of the last; None where none came.
        ahead: Messages refused because their stamps are ahead of their arrival.
        waits_s: How long after a tick the stream is waited for at most, by what its delays were; None while that is
            not known, or where a tick needs the sample after it: up to the contract's ``max_wait_s``.
        parts: (name, age in s of its newest sample) of what comes in separate messages, as joints of several drivers.
    """

    key: str
    topic: str
    count: int
    rate_hz: float
    age_s: float
    drops: int
    decode_errors: int
    unstamped: int
    overflows: int = 0
    late: int = 0
    delay_s: float | None = None
    waits_s: float | None = None
    ahead: int = 0
    parts: tuple[tuple[str, float], ...] = ()


class Sample:
    """A message: its bytes until a tick uses it, from then on its value or a sentence on what was wrong with it."""

    __slots__ = ("content",)

    def __init__(self, raw: bytes) -> None:
        # Not the error itself: its traceback would keep the message alive that it was raised on
        self.content: bytes | Array | str = raw


class Stream:
    """The samples of one topic.

    `push` may be called from any thread; everything else from one thread at a time.

    Args:
        key: Feature key, for status and messages.
        topic: ROS topic.
        type_name: ROS type.
        alignment: Method and timeline. A type without header lives on receive time in any case.
        max_age_s: Older than this at a tick, in s, a sample counts as missing.
        reach_s: How far before a tick samples are needed beyond `max_age_s` (windows, waiting), in s.
        has_window: Whether the value at a tick is a window of interpolated ones.

    Attributes:
        most_ahead_ns: By how much a stamp may be ahead of its arrival; None for any, as where time is simulated or a
            bag's.
        deserialize: Bytes to message.
        decode: Message to array.
        blend: How two arrays are interpolated.
        value_bytes: Memory of a decoded value, where it is more than a message's.
    """

    def __init__(
        self,
        *,
        key: str,
        topic: str,
        type_name: str,
        alignment: AlignmentSpec,
        max_age_s: float,
        reach_s: float,
        deserialize: Deserialize,
        decode: Callable[[Any], Array],
        blend: Blend,
        value_bytes: int = 0,
        has_window: bool = False,
    ) -> None:
        self.key, self.topic, self.type_name = key, topic, type_name
        self._place = f"{topic} ({key})"
        self._value_bytes = value_bytes
        self.max_age_ns = round(max_age_s * NANOSECONDS)
        self._by_header = alignment.timeline == "header" and has_header(type_name)
        self._method = alignment.method
        self._looks_ahead = has_window or alignment.method != "hold"
        self._deserialize, self._decode, self._blend = deserialize, decode, blend
        self._buffer = SampleBuffer(self.max_age_ns + round((reach_s + SPAN_MARGIN_S) * NANOSECONDS))
        self._receive_ns: deque[int] = deque(maxlen=_RATE_SAMPLES)
        self._count = self._drops = self._decode_errors = self._unstamped = 0
        self._refusal = ""
        self._gate = Lock()
        self._is_assembling = False
        self._held: list[tuple[bytes, int, bool]] = []
        self._assembled_ns: int | None = None
        self._late: deque[LateSample] = deque(maxlen=_MAX_LATE)
        self._n_late = 0
        self._meter = DelayMeter()
        self._n_ahead = 0
        self._size: tuple[int, int] | None = None
        self._first_size: tuple[int, int] | None = None
        self.most_ahead_ns: int | None = None

    def push(self, raw: bytes, receive_ns: int) -> None:
        """Stamp and store a serialised message; one that comes while a tick is assembled came after it."""
        self._pass(raw, receive_ns, False)

    def _pass(self, raw: bytes, receive_ns: int, is_static: bool) -> None:
        with self._gate:
            if not self._is_assembling:
                self._accept(raw, receive_ns, is_static)
            elif len(self._held) < _MAX_HELD:
                self._held.append((raw, receive_ns, is_static))
            else:
                self._drops += 1

    @contextmanager
    def assembling(self, tick_ns: int) -> Iterator[None]:
        """Let nothing that comes meanwhile change the value at a tick; what comes later and belongs to it is late."""
        with self._gate:
            self._is_assembling, self._assembled_ns = True, tick_ns
        try:
            yield
        finally:
            with self._gate:
                self._is_assembling = False
                held, self._held = self._held, []
                for message in held:
                    self._accept(*message)

    def take_late(self) -> list[LateSample]:
        """Return the late samples since the last call; more than 4096 of them are counted only."""
        late = []
        while self._late:
            late.append(self._late.popleft())
        return late

    def _accept(self, raw: bytes, receive_ns: int, is_static: bool) -> None:  # noqa: ARG002 - of transforms
        self._arrived(receive_ns)
        try:
            stamp_ns = header_stamp_ns(raw) if self._by_header else receive_ns
            if stamp_ns == 0 and self._by_header:
                self._unstamped += 1
                self._refuse(
                    raw,
                    f"{self._place}: header stamps are 0, so its samples have no time; stamp them in the "
                    "driver or set alignment.timeline to 'receive'",
                )
            elif self._is_ahead(stamp_ns, receive_ns):
                self._refuse(raw, self._ahead(stamp_ns - receive_ns))
            elif self._store(raw, stamp_ns, receive_ns):
                self._refusal = ""
            else:
                self._drops += 1
                stamp = f"one of {stamp_ns} ns came after a newer one"
                self._refuse(raw, f"{self._place}: header stamps do not advance; {stamp}")
        except DecodeError as reason:
            self._decode_errors += 1
            self._refusal = f"{self._place}: {reason}"

    def _arrived(self, receive_ns: int) -> None:
        self._count += 1
        self._receive_ns.append(receive_ns)

    def _store(self, raw: bytes, stamp_ns: int, receive_ns: int) -> bool:
        """Keep a message; return whether it was taken. Raises DecodeError."""
        before_ns = self._buffer.newest_ns
        taken = self._buffer.push(stamp_ns, Sample(raw), receive_ns, max(len(raw), self._value_bytes))
        if taken:
            self._meter.add(receive_ns - stamp_ns)
            if self._is_late(stamp_ns, before_ns, self._assembled_ns):
                self._note_late("", stamp_ns, self._assembled_ns)
        return taken

    def _is_ahead(self, stamp_ns: int, receive_ns: int) -> bool:
        """Whether a stamp is impossible: what it says was measured after it came."""
        is_ahead = self.most_ahead_ns is not None and stamp_ns - receive_ns > self.most_ahead_ns
        self._n_ahead += is_ahead
        return is_ahead

    def _ahead(self, ahead_ns: int) -> str:
        return (
            f"{self._place}: header stamps are {ahead_ns / NANOSECONDS:.3f} s ahead of their arrival; set the clock of "
            "the computer that stamps them and of this one by one time server"
        )

    def warnings(self) -> list[str]:
        """Say what is odd about messages that are used all the same."""
        found = []
        delay_ns = self._meter.median_ns
        if self._by_header and delay_ns is not None and delay_ns < -_AHEAD_NS:
            found.append(self._ahead(-delay_ns))
        if self._size != self._first_size and self._size is not None and self._first_size is not None:
            (h, w), (first_h, first_w) = self._size, self._first_size
            aspect = " and their aspect ratio" if h * first_w != w * first_h else ""
            found.append(
                f"{self._place}: images have changed their size{aspect}, from {first_h}x{first_w} to {h}x{w} (height x "
                "width); all are resized to the contract's"
            )
        return found

    def _is_late(self, stamp_ns: int, before_ns: int | None, assembled_ns: int | None) -> bool:
        """Whether the newest assembled tick would have had another value with a sample.

        Args:
            stamp_ns: Of the sample.
            before_ns: Of the one before it; None without one.
            assembled_ns: The tick; None before the first.
        """
        if assembled_ns is None or (before_ns is not None and stamp_ns < before_ns):  # a clock that was set back
            return False
        if stamp_ns <= assembled_ns:
            return True
        is_next = before_ns is not None and before_ns < assembled_ns
        return self._looks_ahead and is_next and stamp_ns - assembled_ns <= self.max_age_ns

    def _note_late(self, part: str, stamp_ns: int, assembled_ns: int | None) -> None:
        self._n_late += 1
        self._late.append(LateSample(self.topic, part, stamp_ns, assembled_ns or 0))

    def _refuse(self, raw: bytes, sentence: str) -> None:  # noqa: ARG002 - what it carries matters to other streams
        """Remember why a message was not taken."""
        self._refusal = sentence

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample, None while there is none."""
        return self._buffer.newest_ns

    def newest(self) -> tuple[int, Array] | None:
        """Return stamp, ns, and value of the newest sample, whatever its age; None while there is none.

        Raises:
            DecodeError: The sample does not hold what the contract says.
        """
        newest_ns = self._buffer.newest_ns
        sample = None if newest_ns is None else self._buffer.before(newest_ns)
        return None if sample is None else (sample.stamp_ns, self._value(sample.payload))

    def reached(self, tick_ns: int) -> bool:
        """Whether nothing that can still come changes the value at the tick."""
        newest_ns = self._buffer.newest_ns
        return newest_ns is not None and newest_ns >= tick_ns

    @property
    def settles_ns(self) -> int | None:
        """How long after a tick nothing that belongs to it is on its way any more, by what the delays were, ns.

        None while that is not known, and where the value at a tick depends on the sample after it.
        """
        return None if self._looks_ahead else self._meter.longest_ns

    def value_at(self, tick_ns: int) -> Array | Gap:
        """Return the stream's value at a tick, or why there is none.

        Raises:
            DecodeError: A sample that the tick uses does not hold what the contract says, or there is no value between
                the two around it.
        """
        if self._method == "interpolate":
            return self._interpolated(
                partial(interpolate, self._buffer, tick_ns, self.max_age_ns, self._value, self._blend)
            )
        chosen = (nearest if self._method == "nearest" else hold)(self._buffer, tick_ns, self.max_age_ns)
        return self._value(chosen.payload) if isinstance(chosen, Stamped) else self._explained(chosen)

    def window_at(self, tick_ns: int, samples: int, period_ns: int) -> Array | Gap:
        """Return the interpolated window [K, ...] that ends at a tick; otherwise as `value_at`."""
        return self._interpolated(
            partial(
                window,
                self._buffer,
                tick_ns,
                self.max_age_ns,
                self._value,
                self._blend,
                samples=samples,
                period_ns=period_ns,
            )
        )

    def age_ns(self, tick_ns: int) -> int | None:
        """How long before the tick the newest sample not after it was taken, None when there is none."""
        sample = self._buffer.before(tick_ns)
        return None if sample is None else tick_ns - sample.stamp_ns

    def discard_before(self, stamp_ns: int) -> None:
        """Forget the samples that are older than a stamp."""
        self._buffer.discard_before(stamp_ns)

    def clear(self) -> None:
        """Forget the samples; counters stay."""
        self._buffer.clear()
        self._refusal = ""
        self._assembled_ns = None
        self._meter.clear()
        self._size = self._first_size = None

    def status(self, now_ns: int) -> StreamStatus:
        """Return the counters."""
        arrivals = list(self._receive_ns)
        age_s, rate_hz = float("inf"), 0.0
        if arrivals:
            age_s = (now_ns - arrivals[-1]) / NANOSECONDS
        if len(arrivals) > 1 and arrivals[-1] > arrivals[0]:
            mean_s = (arrivals[-1] - arrivals[0]) / NANOSECONDS / (len(arrivals) - 1)
            # A stream that fell silent has at most one message in the time since its last
            rate_hz = 1.0 / max(mean_s, age_s if age_s > 3 * mean_s else 0.0)
        return StreamStatus(
            self.key,
            self.topic,
            self._count,
            rate_hz,
            age_s,
            self._drops,
            self._decode_errors,
            self._unstamped,
            self._overflows,
            self._n_late,
            _seconds(self._meter.median_ns),
            _seconds(self.settles_ns),
            self._n_ahead,
        )

    def _interpolated(self, resample: Callable[[], Array | Gap]) -> Array | Gap:
        """Return what lies between samples, finite in float32, or why there is nothing."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                value = resample()
        except DecodeError:
            raise
        except Exception as reason:  # as a rotation that is not defined between two samples
            raise unforeseen(self._place, reason) from reason
        if isinstance(value, Gap):
            return self._explained(value)
        if not (np.abs(value) <= _FLOAT32_MAX).all():  # also true of NaN
            raise DecodeError(f"{self._place}: the value between two samples is not a finite number in float32")
        return value

    def _explained(self, value: Array | Gap) -> Array | Gap:
        """Say why a stream has no value, where messages did come but had to be refused or forgotten."""
        if not isinstance(value, Gap):
            return value
        if value.reason in ("silent", "stale") and self._refusal:
            return Gap(self._refusal, value.age_ns)
        if self._buffer.overflowing:
            return Gap(self._overflowing(len(self._buffer)), value.age_ns)
        return value

    @property
    def _overflows(self) -> int:
        return self._buffer.overflows

    def _overflowing(self, kept: int) -> str:
        return (
            f"{self._place}: more or larger messages come than are kept, of which there are {kept}; "
            "let its publisher send fewer, and look whether its stamps advance"
        )

    def _value(self, sample: Sample) -> Array:
        """Decode a sample once; its value or what was wrong with it takes the place of its bytes."""
        if not isinstance(sample.content, np.ndarray | str):
            self._size = image_size(sample.content, self.type_name) or self._size
            self._first_size = self._first_size or self._size
            try:
                sample.content = decode_message(
                    sample.content, self.type_name, self._place, self._deserialize, self._decode
                )
            except DecodeError as reason:
                self._decode_errors += 1
                sample.content = str(reason)
        if isinstance(sample.content, str):
            raise DecodeError(sample.content)
        return sample.content


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / NANOSECONDS
