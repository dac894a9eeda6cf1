"""The recent samples of one stream, in the order of their stamps. No interpolation, no decoding."""

from bisect import bisect_left, bisect_right
from threading import Lock
from typing import Any, NamedTuple

from vla_ros.data_types import NANOSECONDS

MAX_RATE_HZ = 2000
"""Samples a second of stamps that are kept. Joints, force and inertial sensors deliver up to 1 kHz."""

MIN_SAMPLES, MAX_SAMPLES = 256, 65_536
"""Bounds of the number kept, however short or long the span."""

MAX_BYTES = 256 * 2**20
"""Bytes kept of one stream: 1.4 s of 1080p RGB images at 30 Hz, a third of a second of 4K."""

RECEIVE_SPANS = 4
"""A sample is forgotten when it was received this many spans before the newest, whatever its stamp says."""

_LEAST = 2
"""Samples that no bound on bytes or receive times takes away: those around a tick."""


class Stamped(NamedTuple):
    """A sample and its time.

    Attributes:
        stamp_ns: When it was taken.
        payload: Whatever was pushed.
    """

    stamp_ns: int
    payload: Any


class _Kept(NamedTuple):
    payload: Any
    receive_ns: int
    n_bytes: int


class SampleBuffer:
    """Keeps the samples of the last `span_ns` before the newest one.

    Stamps rise strictly. A sample that is not newer than the newest is refused: once a sample at or after tick t has
    come, nothing that comes later changes the value at t, so a live node that decided at that moment and a converter
    that reads the whole bag agree. The one exception is a step back of more than the span: no late sample, but a clock
    that was reset or an earlier stamp that was wrong; the buffer then starts anew.

    Stamps are the sender's choice, so the span alone bounds nothing: a million samples fit into a millisecond. Beyond
    `max_samples`, `max_bytes` and `receive_span_ns` the oldest are forgotten and counted in `overflows`. What is kept
    depends on what was pushed and on nothing else, so this too is the same live and from a bag.

    Thread-safe: one thread may push while others read; each holds the lock for a binary search at most.

    Args:
        span_ns: How long a sample is kept behind the newest.

    Attributes:
        max_samples: Most samples kept: a span at `MAX_RATE_HZ`.
        max_bytes: Most bytes kept, though never fewer than two samples.
        receive_span_ns: How long a sample is kept behind the arrival of the newest, though never fewer than two.
        overflows: Samples forgotten by these bounds within their span, since the start.
        overflowing: Whether the newest sample made others be forgotten so.
    """

    def __init__(self, span_ns: int) -> None:
        if span_ns <= 0:
            raise ValueError(f"span_ns must be positive, got {span_ns}")
        self.span_ns = span_ns
        self.max_samples = min(max(span_ns * MAX_RATE_HZ // NANOSECONDS + 1, MIN_SAMPLES), MAX_SAMPLES)
        self.max_bytes = MAX_BYTES
        self.receive_span_ns = RECEIVE_SPANS * span_ns
        self.overflows = 0
        self.overflowing = False
        self._stamps: list[int] = []
        self._kept: list[_Kept] = []
        self._bytes = 0
        self._lock = Lock()

    def push(self, stamp_ns: int, payload: Any, receive_ns: int | None = None, n_bytes: int = 0) -> bool:
        """Store a sample; return whether it was taken (see the class for the rule).

        Args:
            stamp_ns: When it was taken.
            payload: The sample.
            receive_ns: When it arrived; None for its stamp.
            n_bytes: Memory it holds on to.
        """
        with self._lock:
            stamps = self._stamps
            if stamps and stamp_ns <= stamps[-1]:
                if stamp_ns >= stamps[-1] - self.span_ns:
                    return False
                self._forget(len(stamps))
            stamps.append(stamp_ns)
            self._kept.append(_Kept(payload, stamp_ns if receive_ns is None else receive_ns, n_bytes))
            self._bytes += n_bytes
            expired = bisect_left(stamps, stamp_ns - self.span_ns)
            if expired:
                self._forget(expired)
            excess = self._excess()
            self.overflowing = excess > 0
            if excess:
                self.overflows += excess
                self._forget(excess)
            return True

    def before(self, tick_ns: int) -> Stamped | None:
        """Return the newest sample that is not after the tick."""
        with self._lock:
            index = bisect_right(self._stamps, tick_ns) - 1
            return Stamped(self._stamps[index], self._kept[index].payload) if index >= 0 else None

    def after(self, tick_ns: int) -> Stamped | None:
        """Return the oldest sample that is not before the tick."""
        with self._lock:
            index = bisect_left(self._stamps, tick_ns)
            return Stamped(self._stamps[index], self._kept[index].payload) if index < len(self._stamps) else None

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample, None while there is none."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def discard_before(self, stamp_ns: int) -> None:
        """Forget the samples that are older than a stamp."""
        with self._lock:
            self._forget(bisect_left(self._stamps, stamp_ns))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._forget(len(self._stamps))

    def __len__(self) -> int:
        with self._lock:
            return len(self._stamps)

    def _excess(self) -> int:
        """Return how many of the oldest are too many, by number, bytes or receive time."""
        kept, n_bytes = self._kept, self._bytes
        oldest_ns = kept[-1].receive_ns - self.receive_span_ns
        excess = 0
        while len(kept) - excess > self.max_samples or (
            len(kept) - excess > _LEAST and (n_bytes > self.max_bytes or kept[excess].receive_ns < oldest_ns)
        ):
            n_bytes -= kept[excess].n_bytes
            excess += 1
        return excess

    def _forget(self, count: int) -> None:
        self._bytes -= sum([sample.n_bytes for sample in self._kept[:count]])
        del self._stamps[:count], self._kept[:count]
