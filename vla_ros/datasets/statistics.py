"""The ten statistics of a feature: exact from values, exact from pixel counts, combined from episodes.

Conventions: statistics of a vector are per number, [S]; of points and windows per field, [F], over all valid
rows; of images per channel in 0–1, [3, 1, 1]. ``count`` is int64 [1]: frames, or valid rows for points and
windows. A row holding a NaN is no row: it enters nothing. Where there is no valid row every statistic is NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec

QUANTILE_NUMBERS = 20_000_000
"""Numbers of a feature read back for the quantiles of many episodes; beyond it, evenly spaced frames."""
QUANTILES: dict[str, float] = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STATISTICS = ("min", "max", "mean", "std", "count", *QUANTILES)
"""Names of the statistics, in the order in which they are stored."""

MOMENTS = frozenset(STATISTICS) - QUANTILES.keys()
"""Those that follow exactly from the statistics of parts."""

Statistics = dict[str, NDArray[Any]]
"""Statistic's name → float64 array; ``count`` int64 [1]."""


def compute_statistics(
    values: Mapping[str, NDArray[Any]], features: Mapping[str, FeatureSpec]
) -> dict[str, Statistics]:
    """Return the exact statistics of each feature.

    Args:
        values: Feature key → [L, ...]; images uint8 [L, h, w, 3].
        features: What each key is; keys of `values` that it lacks are read as vectors.
    """
    result: dict[str, Statistics] = {}
    for key, array in values.items():
        spec = features.get(key)
        if spec is not None and spec.kind == "image":
            counts = PixelCounts()
            for image in array:
                counts.add(image)
            result[key] = counts.statistics()
        else:
            by_field = spec is not None and spec.kind in ("points", "window")
            result[key] = row_statistics(
                array.reshape(-1, array.shape[-1]) if by_field else array.reshape(len(array), -1)
            )
    return result


def row_statistics(rows: NDArray[Any]) -> Statistics:
    """Return the statistics of each column of `rows` [L, S], rows with a NaN left out."""
    valid = rows.astype(np.float64)
    valid = valid[~np.isnan(valid).any(axis=1)]
    count = np.array([len(valid)], np.int64)
    if not len(valid):
        nothing = np.full(rows.shape[1], np.nan)
        return {name: count if name == "count" else nothing.copy() for name in STATISTICS}
    result: Statistics = {
        "min": valid.min(axis=0),
        "max": valid.max(axis=0),
        "mean": valid.mean(axis=0),
        "std": valid.std(axis=0),
        "count": count,
    }
    quantiles = np.quantile(valid, list(QUANTILES.values()), axis=0)
    return {**result, **dict(zip(QUANTILES, quantiles, strict=True))}


class PixelCounts:
    """How often each level 0–255 occurs in each channel: exact statistics of images that were never kept.

    Large images are counted on a regular grid of pixels, about `side` along their longer side.

    Attributes:
        levels: int64 [3, 256], how often each level occurs in each channel.
        frames: Images counted.
    """

    def __init__(self, side: int = 240) -> None:
        self._side = side
        self.levels: NDArray[np.int64] = np.zeros((3, 256), np.int64)
        self.frames = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """Count one image, uint8 [h, w, 3]."""
        stride = max(1, max(image.shape[:2]) // self._side)
        pixels = image[::stride, ::stride].reshape(-1, 3)
        for channel in range(3):
            self.levels[channel] += np.bincount(pixels[:, channel], minlength=256)
        self.frames += 1

    def merge(self, other: "PixelCounts") -> None:
        """Add the counts of other images."""
        self.levels += other.levels
        self.frames += other.frames

    def statistics(self) -> Statistics:
        """Return the statistics of all images counted, scaled to 0–1, each [3, 1, 1]."""
        channels = [_level_statistics(levels) for levels in self.levels]
        result: Statistics = {}
        for name in STATISTICS:
            if name == "count":
                result[name] = np.array([self.frames], np.int64)
            else:
                result[name] = np.array([channel[name] for channel in channels], np.float64).reshape(3, 1, 1) / 255.0
        return result


def _level_statistics(levels: NDArray[np.int64]) -> dict[str, float]:
    """Statistics in 0–255 of one channel's counts; quantiles interpolate linearly as `numpy.quantile` does."""
    total = int(levels.sum())
    if total == 0:
        return dict.fromkeys(STATISTICS, float("nan"))
    values = np.arange(256, dtype=np.float64)
    mean = float(levels @ values) / total
    present = np.flatnonzero(levels)
    last = np.cumsum(levels) - 1  # index of the last pixel of each level in sorted order
    result = {
        "min": float(present[0]),
        "max": float(present[-1]),
        "mean": mean,
        "std": float(np.sqrt(levels @ (values - mean) ** 2 / total)),
    }
    for name, share in QUANTILES.items():
        position = share * (total - 1)
        below, above = np.searchsorted(last, [np.floor(position), np.ceil(position)])
        result[name] = float(below + (above - below) * (position - np.floor(position)))
    return result


def aggregate_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Combine the statistics of disjoint sets of rows, e.g. of episodes.

    Minimum, maximum, mean, standard deviation and count are exact. Quantiles are those of the mixture of the parts'
    distributions, each known at its quantiles and linear between them: good to a few percent of the range.
    """
    filled = [part for part in parts if int(part["count"][0]) > 0]
    if not filled:
        return {name: array.copy() for name, array in parts[0].items()}
    counts = np.array([int(part["count"][0]) for part in filled], np.int64)
    shape = (-1,) + (1,) * filled[0]["mean"].ndim
    weights = (counts / counts.sum()).reshape(shape)
    means = np.stack([part["mean"] for part in filled])
    mean = (weights * means).sum(axis=0)
    variances = np.stack([part["std"] for part in filled]) ** 2
    result: Statistics = {
        "min": np.min([part["min"] for part in filled], axis=0),
        "max": np.max([part["max"] for part in filled], axis=0),
        "mean": mean,
        "std": np.sqrt((weights * (variances + (means - mean) ** 2)).sum(axis=0)),
        "count": np.array([counts.sum()], np.int64),
    }
    known = [name for name in QUANTILES if all(name in part for part in filled)]
    if len(known) == len(QUANTILES):
        result |= _mixed_quantiles(filled, counts / counts.sum())
    return result


def _mixed_quantiles(parts: Sequence[Statistics], weights: NDArray[np.float64]) -> Statistics:
    """Return the quantiles of a mixture, number by number: where the weighted sum of the parts' CDFs reaches each."""
    names = ("min", *QUANTILES, "max")
    levels = np.array([0.0, *QUANTILES.values(), 1.0])
    shape = parts[0]["mean"].shape
    points = np.stack([[part[name].reshape(-1) for name in names] for part in parts])  # [parts, 7, S]
    result = {name: np.empty(points.shape[2]) for name in QUANTILES}
    for number in range(points.shape[2]):
        own = np.maximum.accumulate(points[:, :, number], axis=1)
        grid = np.unique(own)
        below = np.zeros(len(grid))  # the CDF just below each point of the grid, and at it: a constant part jumps
        at = np.zeros(len(grid))
        for weight, values in zip(weights, own, strict=True):
            first, last = np.searchsorted(values, grid, "left"), np.searchsorted(values, grid, "right") - 1
            inner = np.interp(grid, *_distinct(values, levels), left=0.0)
            exact = np.isin(grid, values)
            below += weight * np.where(exact, levels[np.minimum(first, len(levels) - 1)] * (first > 0), inner)
            at += weight * np.where(exact, levels[np.maximum(last, 0)], inner)
        steps = np.maximum.accumulate(np.stack([below, at], 1).reshape(-1))
        for name, level in QUANTILES.items():
            result[name][number] = np.interp(level, steps, np.repeat(grid, 2))
    return {name: values.reshape(shape) for name, values in result.items()}


def _distinct(
    values: NDArray[np.float64], levels: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points of a CDF with each value once, at its highest level."""
    last = np.append(values[1:] > values[:-1], True)
    return values[last], levels[last]


def stored_form(statistics: Statistics, spec: FeatureSpec) -> dict[str, Any]:
    """Return nested lists as the format stores them: one value per number of the flat column."""
    repeat = spec.shape[0] if spec.kind in ("points", "window") else 1
    return {
        name: array.tolist() if name == "count" or repeat == 1 else np.tile(array, repeat).tolist()
        for name, array in statistics.items()
    }


def from_stored(stored: Mapping[str, Any], spec: FeatureSpec) -> Statistics:
    """Return statistics from what `stored_form` wrote, or from another writer's file."""
    result: Statistics = {}
    for name in STATISTICS:
        if name not in stored or stored[name] is None:
            continue
        array = np.asarray(stored[name], np.int64 if name == "count" else np.float64)
        if name != "count" and spec.kind in ("points", "window"):
            array = array.reshape(spec.shape)[0]
        elif name != "count" and spec.kind == "image":
            array = array.reshape(3, 1, 1)
        elif name != "count":
            array = array.reshape(-1)
        result[name] = array
    return result
