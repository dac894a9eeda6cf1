"""Action numbers ↔ classes, each number with a range of its own or a list of values. No architecture.

Axis legend: A action_dim, V bins; leading axes are free.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vla_ros.objectives.cross_entropy import UniformBins


@dataclass(frozen=True)
class ActionBins:
    """Uniform bins for most numbers, categories for some.

    Attributes:
        low, high: Ends of each number's range, A of them; those of categorical numbers do not matter.
        count: V, bins per number, and the most categories that one may have.
        categories: Index of a categorical number → the values it takes; class c is the c-th of them.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int = 256
    categories: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    def encode(self, actions: Tensor) -> Tensor:
        """Return classes, int64, of actions [..., A]: the nearest bin or category."""
        bins = self._uniform.encode(actions)
        for index, values in self.categories.items():
            known_V = torch.tensor(values, device=actions.device)
            bins[..., index] = (actions[..., index, None] - known_V).abs().argmin(dim=-1)
        return bins

    def decode(self, bins: Tensor) -> Tensor:
        """Return actions, float32, of classes [..., A]."""
        actions = self._uniform.decode(bins)
        for index, values in self.categories.items():
            known_V = torch.tensor(values, device=bins.device)
            actions[..., index] = known_V[bins[..., index]]
        return actions

    def without_unused(self, logits: Tensor) -> Tensor:
        """Return logits [..., A, V] with those beyond the categories of a categorical number at minus infinity."""
        if not self.categories:
            return logits
        used = [self.categories.get(index, (0.0,) * self.count) for index in range(len(self.low))]
        counts_A1 = torch.tensor([len(values) for values in used], device=logits.device)[:, None]
        unused_AV = torch.arange(self.count, device=logits.device) >= counts_A1
        return logits.masked_fill(unused_AV, float("-inf"))

    @property
    def _uniform(self) -> UniformBins:
        return UniformBins(self.low, self.high, self.count)
