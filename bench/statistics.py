"""Numbers of repeated measurements → medians, spreads and ratios. Standard library and numpy; no measuring here."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Outcome = TypeVar("Outcome")


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile by linear interpolation, None of no values."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent)) if len(values) else None


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that are there, None where there is none."""
    return percentile([value for value in values if value is not None], 50)


def extremes(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the smallest and the largest value that is there, None where there is none."""
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else (None, None)


def ratio(value: float | None, baseline: float | None) -> float | None:
    """Return ``value / baseline``, None where one is missing, not finite, or the baseline is zero."""
    if value is None or baseline is None or not (math.isfinite(value) and math.isfinite(baseline)) or baseline == 0.0:
        return None
    return value / baseline


def ratios(values: Sequence[float | None], baselines: Sequence[float | None]) -> list[float | None]:
    """Return the ratio of every repeat to the baseline measured beside it.

    Raises:
        ValueError: The numbers of repeats differ.
    """
    return [ratio(value, baseline) for value, baseline in zip(values, baselines, strict=True)]


def interleaved(arms: Mapping[str, Callable[[], Outcome]], repeats: int) -> dict[str, list[Outcome]]:
    """Measure every arm `repeats` times, the arms taking turns, every second round in reverse order.

    On a shared machine load comes and goes within minutes: an arm and its baseline must see the same of it.

    Args:
        arms: Name → measurement.
        repeats: Rounds.

    Returns:
        Name → outcomes, in the order of the rounds.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in arms}
    for index in range(repeats):
        for name in list(arms) if index % 2 == 0 else reversed(list(arms)):
            outcomes[name].append(arms[name]())
    return outcomes
