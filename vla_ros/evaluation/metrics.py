"""The numbers of a measurement: intervals, percentiles, rates, jitter. numpy only; no files, no clock of its own."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution: two-sided 95 %."""

PERCENTILES: tuple[int, ...] = (50, 95, 99)


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a success rate.

    Unlike the normal approximation it stays inside [0, 1] and is honest at 20 of 20: E. B. Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 22 (1927).

    Args:
        successes: How many trials succeeded.
        trials: How many there were, at least 1.
        z: Normal quantile of the confidence wanted.

    Returns:
        Lower and upper bound, in [0, 1].

    Raises:
        ValueError: No trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(
            f"{successes} successes in {trials} trials: expected 0 ≤ successes ≤ trials and at least one trial"
        )
    rate = successes / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # Rounding must not push the ends past what the formula gives exactly at 0 and at 1.
    lower = 0.0 if successes == 0 else max(0.0, centre - half)
    upper = 1.0 if successes == trials else min(1.0, centre + half)
    return lower, upper


def percentiles(
    values: Sequence[float] | NDArray[np.float64], at: Sequence[int] = PERCENTILES
) -> dict[str, float] | None:
    """Return ``{"p50": …}`` of `values` (linear interpolation), or None where there are none."""
    if not len(values):
        return None
    points = np.percentile(np.asarray(values, dtype=np.float64), list(at))
    return {f"p{percent}": float(point) for percent, point in zip(at, points, strict=True)}


def intervals_s(stamps_ns: Sequence[int]) -> NDArray[np.float64]:
    """Return the times between consecutive stamps, float64 [len − 1], s; empty for fewer than two stamps."""
    return np.diff(np.asarray(stamps_ns, dtype=np.int64)).astype(np.float64) / 1e9


def mean_rate_hz(series_ns: Sequence[Sequence[int]]) -> float | None:
    """Return events per second over several uninterrupted series, or None if none has two events.

    The time between series (a robot being reset) does not count.

    Args:
        series_ns: Stamps of each series in ns, ascending.
    """
    spans = [intervals_s(series) for series in series_ns]
    total_s = sum(float(span.sum()) for span in spans)
    count = sum(len(span) for span in spans)
    return count / total_s if total_s > 0 else None


def tick_jitter_ms(series_ns: Sequence[Sequence[int]], period_ns: int) -> dict[str, float] | None:
    """Return how far the times between events stray from the period, in ms, or None without two events.

    Args:
        series_ns: Stamps of each uninterrupted series in ns, ascending.
        period_ns: The time that should lie between two events.

    Returns:
        ``std`` of (interval − period), and ``p50``, ``p99`` and ``max`` of its magnitude.
    """
    spans = [intervals_s(series) for series in series_ns]
    errors = np.concatenate([*spans, np.empty(0)]) * 1e3 - period_ns / 1e6
    if not len(errors):
        return None
    magnitude = np.abs(errors)
    return {
        "std": float(errors.std()),
        "p50": float(np.percentile(magnitude, 50)),
        "p99": float(np.percentile(magnitude, 99)),
        "max": float(magnitude.max()),
    }


def rounded(value: object, digits: int = 3) -> object:
    """Return `value` with every float in it (also inside mappings and lists) rounded, for people and for JSON."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, Mapping):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    return value
