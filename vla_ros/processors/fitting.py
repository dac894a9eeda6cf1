"""What steps are fitted on: the training data as they are before each step, and the statistics of that space. No files.

The statistics that a dataset keeps are those of features as the robot has them. Behind a step that changes a feature
they no longer hold, and are measured on the training windows that went through the steps so far.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vla_ros.data_types import ConfigError
from vla_ros.processors.step import Batch, Features, ProcessorStep

Statistics = Mapping[str, Mapping[str, ArrayLike]]
"""Feature key → statistic name → values, as datasets keep them; images in 0–1."""

Windows = Callable[[Sequence[str]], Iterable[Batch]]
"""Keys of inputs → batches of all training windows with these and the action, as the robot has them."""

QUANTILE_NUMBERS = 20_000_000
"""Numbers of a feature kept for its quantiles; of more, every second, third … batch's are."""


@dataclass(frozen=True)
class FitData:
    """The training data before a step.

    Attributes:
        features: What they hold there.
        measured: Statistics of the features as the robot has them.
        windows: Where the windows come from; None where there are only statistics.
        steps: Those that the data went through.
    """

    features: Features
    measured: Statistics
    windows: Windows | None = None
    steps: tuple[ProcessorStep, ...] = ()

    def after(self, step: ProcessorStep) -> "FitData":
        """Return the data after one more step, which has been fitted."""
        return replace(self, features=step.after, steps=(*self.steps, step))

    def batches(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Iterate over all training windows, with these inputs and the action; images are not among them.

        Raises:
            ConfigError: There are only statistics.
        """
        if self.windows is None:
            raise ConfigError(
                f"processor '{self.steps[-1].name if self.steps else 'fit'}' changes {', '.join(keys)}, whose "
                "statistics must be measured on training windows; none were given."
            )
        action = self.features.action.key
        needed = dict.fromkeys([*keys, *(key for step in self.steps for key in step.reads)])
        for raw in self.windows([key for key in needed if key != action]):
            batch = {key: torch.as_tensor(raw[key]) for key in (*needed, action, "action_is_pad") if key in raw}
            for step in self.steps:
                batch = step.forward(batch)
            yield batch

    def is_changed(self, key: str) -> bool:
        """Whether a step has changed a feature."""
        return any(key in step.changes for step in self.steps)

    def statistics(self, key: str) -> Mapping[str, ArrayLike]:
        """Return the statistics of a feature in the space before this step: those measured, or measured now.

        Padded steps of the action count for nothing; of an input every frame counts once.
        """
        if not self.is_changed(key):
            return self.measured.get(key, {})
        summary = RowSummary()
        is_action = key == self.features.action.key
        for batch in self.batches([key]):
            values = batch[key]
            rows = values[~batch["action_is_pad"].bool()] if is_action else values[:, -1]
            summary.add(rows.reshape(-1, rows.shape[-1]).double().cpu().numpy())
        return summary.statistics()


class RowSummary:
    """Statistics of rows that come in parts: exact but for the quantiles of very many."""

    def __init__(self) -> None:
        self._count, self._parts, self._stride, self._kept = 0, 0, 1, 0
        self._mean: NDArray[np.float64] = np.zeros(0)
        self._squares = self._least = self._most = self._mean
        self._rows: list[tuple[int, NDArray[np.float64]]] = []

    def add(self, rows: NDArray[np.float64]) -> None:
        """Add rows [L, S]; those holding a NaN are left out."""
        rows = rows[~np.isnan(rows).any(axis=1)]
        if not len(rows):
            return
        mean, squares = rows.mean(axis=0), rows.var(axis=0) * len(rows)
        least, most, total = rows.min(axis=0), rows.max(axis=0), self._count + len(rows)
        if self._count:  # Chan's combination of two parts
            difference = mean - self._mean
            squares = self._squares + squares + difference**2 * self._count * len(rows) / total
            mean = self._mean + difference * len(rows) / total
            least, most = np.minimum(least, self._least), np.maximum(most, self._most)
        self._count, self._mean, self._squares, self._least, self._most = total, mean, squares, least, most
        self._keep(rows)

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Return ``min``, ``max``, ``mean``, ``std``, ``q01`` and ``q99``, each [S]; nothing where no row came."""
        if not self._count:
            return {}
        low, high = np.quantile(np.concatenate([rows for _, rows in self._rows]), [0.01, 0.99], axis=0)
        std = np.sqrt(self._squares / self._count)
        return {"min": self._least, "max": self._most, "mean": self._mean, "std": std, "q01": low, "q99": high}

    def _keep(self, rows: NDArray[np.float64]) -> None:
        if self._parts % self._stride == 0:
            self._rows.append((self._parts, rows))
            self._kept += rows.size
        self._parts += 1
        while self._kept > QUANTILE_NUMBERS and len(self._rows) > 1:
            self._stride *= 2
            self._rows = [(number, kept) for number, kept in self._rows if number % self._stride == 0]
            self._kept = sum(kept.size for _, kept in self._rows)
