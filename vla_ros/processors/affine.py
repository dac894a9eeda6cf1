"""One affine map per feature, and its inverse. Knows statistics, no keys, no images' layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vla_ros.data_types import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Spread below this share of the values' size (or this number, when they are near zero) is rounding, not signal:
# dividing by it would blow sensor noise up to full scale.
DEGENERATE = 1e-6

# A number whose 1 % and 99 % quantiles are closer than this share of its whole range spends nearly all its time at one
# value, as a gripper that rarely opens does. By its quantiles, a move of it would be a thousand times full scale.
NARROW = 1e-3

RANGE_OF_MODE = {
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "symmetric": ("min", "max"),
    "quantile": ("q01", "q99"),
}
"""The two statistics that a mode's map is made of; other modes use none."""


@dataclass(frozen=True)
class Affine:
    """``forward(x) = (x - offset) / scale``, elementwise over the trailing axes.

    Attributes:
        offset: float32, the feature's shape (images: [3]).
        scale: float32, same shape, nowhere zero.
    """

    offset: Tensor
    scale: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """Return normalised values."""
        return (values - self.offset) / self.scale

    def inverse(self, values: Tensor) -> Tensor:
        """Return values in their own units."""
        return values * self.scale + self.offset

    def to(self, device: torch.device | str) -> "Affine":
        """Return the same map on another device."""
        return Affine(self.offset.to(device), self.scale.to(device))


def affine_from_statistics(
    mode: str,
    shape: tuple[int, ...],
    statistics: Mapping[str, ArrayLike],
    key: str,
    together: Sequence[int] = (),
) -> tuple[Affine, NDArray[np.bool_]]:
    """Build the map of a feature.

    A number that does not vary in the data has no scale of its own: it is only centred (scale 1), so that the
    constant maps to 0 and a departure from it, which training never saw, passes at its physical size.

    Args:
        mode: ``mean_std``, ``min_max``, ``symmetric``, ``quantile``, ``identity``, ``imagenet``, or
            ``unit_range`` ([0, 1] to [−1, 1]).
        shape: Of the numbers to be mapped; statistics per number, or per last axis.
        statistics: ``mean``, ``std``, ``min``, ``max``, ``q01``, ``q99``; only what the mode needs. With ``min`` and
            ``max`` given too, a number whose quantiles nearly coincide is mapped by its whole range.
        key: Feature key, for messages.
        together: Indices of the numbers that share one scale with ``symmetric`` and are never centred, so that the
            lengths and directions of their vector stay physical.

    Returns:
        The map, and which numbers do not vary, bool `shape`.

    Raises:
        ConfigError: A statistic is absent, of another size, not finite, or no deviation or range of anything.
    """
    constant = np.zeros(shape, dtype=np.bool_)
    if mode == "identity":
        return Affine(torch.zeros(shape), torch.ones(shape)), constant
    if mode == "unit_range":
        return Affine(torch.full(shape, 0.5), torch.full(shape, 0.5)), constant
    if mode == "imagenet":
        return Affine(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)), constant
    first, second = (_statistic(statistics, name, shape, key) for name in RANGE_OF_MODE[mode])
    offset, scale = (first, second) if mode == "mean_std" else ((first + second) / 2, (second - first) / 2)
    if (scale < 0.0).any():
        low, high = RANGE_OF_MODE[mode]
        fault = f"'{high}' of '{key}' is " + ("negative" if mode == "mean_std" else f"below '{low}'")
        raise ConfigError(f"The dataset's statistic {fault}; recompute its statistics.")
    has_range = {"min", "max"} <= statistics.keys()
    least, most = (_statistic(statistics, name, shape, key) if has_range else None for name in ("min", "max"))
    if mode == "quantile" and least is not None and most is not None:
        narrow = scale <= NARROW * (most - least) / 2
        offset, scale = np.where(narrow, (least + most) / 2, offset), np.where(narrow, (most - least) / 2, scale)
    constant = scale <= DEGENERATE * np.maximum(np.abs(offset), 1.0)
    if constant.any() and least is not None:  # the number itself; a mean of it may be rounded
        offset = np.where(constant & (least == most), least, offset)
    if mode == "symmetric":
        offset, scale = _symmetric(offset, np.maximum(np.abs(first), np.abs(second)), constant, together)
    else:
        scale = np.where(constant, 1.0, scale)
    return Affine(torch.from_numpy(offset).float(), torch.from_numpy(scale).float()), constant


def _symmetric(
    centre: NDArray[np.float64],
    largest: NDArray[np.float64],
    constant: NDArray[np.bool_],
    together: Sequence[int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return offsets, 0 but of constants, and scales; those of numbers that belong together are one.

    Args:
        centre: Of each number's range, of a constant its value.
        largest: Absolute value of each number.
        constant: Which never vary.
        together: Indices on the last axis.
    """
    offset, scale = np.where(constant, centre, 0.0), np.where(constant, 1.0, largest)
    if together:
        index = list(together)
        shared = float(largest[..., index].max())
        offset[..., index], scale[..., index] = 0.0, shared if shared > DEGENERATE else 1.0
    return offset, scale


def _statistic(statistics: Mapping[str, ArrayLike], name: str, shape: tuple[int, ...], key: str) -> NDArray[np.float64]:
    if name not in statistics:
        raise ConfigError(f"The dataset has no statistic '{name}' of '{key}'; recompute its statistics.")
    values = np.asarray(statistics[name], dtype=np.float64)
    if values.size == int(np.prod(shape)):
        values = values.reshape(shape)
    elif shape and values.size == shape[-1]:
        values = np.broadcast_to(values.reshape(-1), shape)
    else:
        raise ConfigError(f"The dataset's statistic '{name}' of '{key}' has {values.size} numbers, expected {shape}.")
    if not np.isfinite(values).all():
        raise ConfigError(f"The dataset's statistic '{name}' of '{key}' is not finite; was the feature ever present?")
    return np.array(values)
