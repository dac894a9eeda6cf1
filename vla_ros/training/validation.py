"""What a policy is worth on windows it does not learn from. Changes no weight."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.policies import Policy
from vla_ros.processors import Processors

ACTION_ERROR_BATCHES = 16
"""Batches on which whole predictions are made; policies that sample need many passes for one."""


class Windows(Protocol):
    """Windows over episodes, as `vla_ros.datasets.WindowSampler` gives them."""

    def __len__(self) -> int:
        """Return how many there are."""

    def batch(self, indices: NDArray[np.integer[Any]]) -> dict[str, Any]:
        """Return the windows of these indices, not normalised, each with a leading axis B."""


class Means:
    """Weighted means of named scalars, left on their device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: Mapping[str, Tensor], weight: int) -> None:
        """Add each term `weight` times."""
        for name, value in terms.items():
            addend = value.detach().double() * weight
            self._sums[name] = self._sums[name] + addend if name in self._sums else addend

    def means(self, total_weight: int) -> dict[str, float]:
        """Return the sums divided by all weight added."""
        return {name: float(value) / total_weight for name, value in self._sums.items()}


@torch.no_grad()
def validate(
    policy: Policy, processors: Processors, windows: Windows, batch_size: int, generator: torch.Generator
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure a policy; it is left in eval mode.

    Returns:
        Mean ``loss`` and terms; and action number → mean absolute error of predicted chunks, in its own unit, padded
        steps left out.
    """
    policy.eval()
    totals, error_sum, steps = Means(), torch.zeros(policy.config.action_dim), 0
    for number, first in enumerate(range(0, len(windows), batch_size)):
        indices = np.arange(first, min(first + batch_size, len(windows)))
        raw = windows.batch(indices)
        batch = processors.batch(raw)
        output = policy.compute_loss(batch, generator)
        totals.add({"loss": output.loss, **output.terms}, len(indices))
        if number < ACTION_ERROR_BATCHES:
            predicted = policy.predict_action_chunk(batch, generator=generator).actions.float()
            error = (processors.actions(predicted).cpu() - torch.as_tensor(raw["action"])).abs()
            kept = ~torch.as_tensor(raw["action_is_pad"])
            error_sum += error[kept].sum(dim=0)
            steps += int(kept.sum())
    errors = (error_sum / max(steps, 1)).tolist()
    return totals.means(len(windows)), dict(zip(processors.action.names, errors, strict=True))
