"""Weighted means of named scalars, summed on their device. No model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Means:
    """Means of what a batch measures, each batch with the weight it is added with; read once, at the end."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weight = 0

    def add(self, terms: Mapping[str, Tensor], weight: int) -> None:
        """Add each term `weight` times."""
        for name, value in terms.items():
            addend = value.detach().double() * weight
            self._sums[name] = self._sums[name] + addend if name in self._sums else addend
        self._weight += weight

    def means(self) -> dict[str, float]:
        """Return the sums divided by all weight added."""
        return {name: float(value) / max(self._weight, 1) for name, value in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on later."""
        return {"sums": {name: value.cpu() for name, value in self._sums.items()}, "weight": self._weight}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take up what `state_dict` returned."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._weight = state["weight"]
