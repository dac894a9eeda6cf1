"""The value of a stream at a tick: held, nearest, interpolated, or a window of values that ends there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS
from vla_ros.resampling.buffer import SampleBuffer, Stamped

ValueOf = Callable[[Any], NDArray[Any]]
"""Payload → numbers."""

Blend = Callable[[NDArray[Any], NDArray[Any], float], NDArray[np.float64]]
"""(value before, value after, weight of the latter) → the value between them."""


@dataclass(frozen=True)
class Gap:
    """Why there is no value at a tick.

    Attributes:
        reason: ``silent`` (no sample not after the tick), ``stale`` (all too old), or a sentence.
        age_ns: How long before the tick the newest sample was taken, None when there is none.
    """

    reason: str
    age_ns: int | None


def linear(before: NDArray[Any], after: NDArray[Any], weight: float) -> NDArray[np.float64]:
    """Blend numbers linearly, in float64."""
    start = np.asarray(before, dtype=np.float64)
    return np.asarray(start + (np.asarray(after, dtype=np.float64) - start) * weight, dtype=np.float64)


def hold(buffer: SampleBuffer, tick_ns: int, max_age_ns: int) -> Stamped | Gap:
    """Return the newest sample that is not after the tick, unless it is older than `max_age_ns` there."""
    sample = buffer.before(tick_ns)
    if sample is None:
        return Gap("silent", None)
    age_ns = tick_ns - sample.stamp_ns
    return sample if age_ns <= max_age_ns else Gap("stale", age_ns)


def nearest(buffer: SampleBuffer, tick_ns: int, max_age_ns: int) -> Stamped | Gap:
    """Return the sample closest to the tick, the earlier of two as close, within `max_age_ns` on either side."""
    before, after = buffer.before(tick_ns), buffer.after(tick_ns)
    around = [sample for sample in (before, after) if sample is not None]
    if not around:
        return Gap("silent", None)
    best = min(around, key=lambda sample: abs(sample.stamp_ns - tick_ns))
    if abs(best.stamp_ns - tick_ns) <= max_age_ns:
        return best
    return Gap("silent", None) if before is None else Gap("stale", tick_ns - before.stamp_ns)


def interpolate(
    buffer: SampleBuffer, tick_ns: int, max_age_ns: int, value_of: ValueOf, blend: Blend = linear
) -> NDArray[Any] | Gap:
    """Return the value between the samples around the tick; a sample at the very tick is taken as it is.

    Both samples must lie within `max_age_ns` of the tick. Without one after the tick there is no value: holding the
    last one instead would give a policy numbers of another kind than those it was trained on.
    """
    start = hold(buffer, tick_ns, max_age_ns)
    if isinstance(start, Gap):
        return start
    if start.stamp_ns == tick_ns:
        return value_of(start.payload)
    end = buffer.after(tick_ns)
    if end is None or end.stamp_ns - tick_ns > max_age_ns:
        age_ns = tick_ns - start.stamp_ns
        return Gap(
            f"to interpolate, a sample within {max_age_ns / NANOSECONDS:g} s after the tick is needed, and none came",
            age_ns,
        )
    weight = (tick_ns - start.stamp_ns) / (end.stamp_ns - start.stamp_ns)
    return blend(value_of(start.payload), value_of(end.payload), weight)


def window(
    buffer: SampleBuffer,
    tick_ns: int,
    max_age_ns: int,
    value_of: ValueOf,
    blend: Blend = linear,
    *,
    samples: int,
    period_ns: int,
) -> NDArray[Any] | Gap:
    """Return interpolated values at `samples` times `period_ns` apart, the last of them the tick: [K, ...]."""
    values = []
    for k in range(samples):
        value = interpolate(buffer, tick_ns - (samples - 1 - k) * period_ns, max_age_ns, value_of, blend)
        if isinstance(value, Gap):
            newest = buffer.before(tick_ns)
            age_ns = None if newest is None else tick_ns - newest.stamp_ns
            if age_ns is None or age_ns > max_age_ns:
                return Gap("silent" if age_ns is None else "stale", age_ns)
            length_s = (samples - 1) * period_ns / NANOSECONDS
            if value.reason == "silent":
                return Gap(f"its window of {length_s:g} s reaches back to before the first sample", age_ns)
            hole = f"its window of {length_s:g} s has a hole longer than {max_age_ns / NANOSECONDS:g} s"
            return Gap(hole if value.reason == "stale" else value.reason, age_ns)
        values.append(value)
    return np.stack(values)
