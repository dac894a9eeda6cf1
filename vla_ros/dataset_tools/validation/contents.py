"""A dataset's numbers in memory, read once for all checks."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vla_ros.datasets import EpisodeDataset

_MOST_NUMBERS = 50_000_000


class Contents:
    """What the checks read of a dataset.

    Args:
        dataset: An open dataset.

    Attributes:
        number_keys: Vectors and actions that are small enough to be held.
        action_keys: Those that are actions.
    """

    def __init__(self, dataset: EpisodeDataset) -> None:
        self.dataset = dataset
        self.number_keys = [
            key
            for key, spec in dataset.features.items()
            if spec.kind in ("vector", "action") and int(np.prod(spec.shape)) * dataset.n_frames < _MOST_NUMBERS
        ]
        self.action_keys = [key for key in self.number_keys if key.startswith("action")]
        self._ends = np.cumsum(dataset.lengths)
        self._held: dict[str, NDArray[np.float64]] = {}

    def all_rows(self, key: str) -> NDArray[np.float64]:
        """Return a feature over all frames, float64 [N, S]; what is not finite is replaced by 0, and told elsewhere."""
        if key not in self._held:
            self._held[key] = np.nan_to_num(self.raw_rows(key), posinf=0.0, neginf=0.0)
        return self._held[key]

    def raw_rows(self, key: str) -> NDArray[np.float64]:
        """Return a feature as it is stored, float64 [N, S]."""
        values = self.dataset.column(self.dataset.features[key])
        return values.reshape(len(values), -1).astype(np.float64)

    def rows(self, key: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield number and rows [L, S] of every episode."""
        yield from enumerate(np.split(self.all_rows(key), self._ends[:-1]))

    def names(self, key: str) -> list[str]:
        """Return what the numbers of a feature are called."""
        spec = self.dataset.features[key]
        size = int(np.prod(spec.shape))
        return list(spec.names) if len(spec.names) == size else [str(n) for n in range(size)]

    def episodes_of(self, frames: Sequence[int] | NDArray[np.int64]) -> list[int]:
        """Return the episodes that some frames of the whole dataset lie in."""
        return [int(index) for index in np.unique(np.searchsorted(self._ends, frames, side="right"))]
