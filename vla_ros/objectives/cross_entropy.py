"""Actions as classes: uniform bins per action number, and a cross-entropy blind to padding. No architecture.

Axis legend: B batch, H action_horizon, A action_dim, V bins.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.objectives.regression import masked_mean, of_numbers


@dataclass(frozen=True)
class UniformBins:
    """A number ↔ the nearest of `count` values from `low` to `high`, both included.

    ``bin = round(clip((a - low) / (high - low), 0, 1) * (count - 1))``; encoding what was decoded returns the bin.

    Attributes:
        low, high: Ends, one for all action numbers or one each.
        count: V, at least 2.
    """

    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0
    count: int = 256

    def encode(self, actions: Tensor) -> Tensor:
        """Return bins, int64, of actions [..., A]; beyond the ends, the end's bin."""
        low, high = self._ends(actions)
        share = ((actions - low) / (high - low)).clamp(0.0, 1.0)
        return (share * (self.count - 1)).round().long()

    def decode(self, bins: Tensor) -> Tensor:
        """Return actions, float32, of bins [..., A]."""
        low, high = self._ends(bins)
        return low + bins.float() / (self.count - 1) * (high - low)

    def _ends(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (torch.as_tensor(end, dtype=torch.float32, device=like.device) for end in (self.low, self.high))
        return low, high


def cross_entropy(logits_BHAV: Tensor, bins_BHA: Tensor, is_pad_BH: Tensor, weight_BH1: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy in nats over the numbers of the steps that are not padding; 0 when all are.

    Args:
        logits_BHAV: float [B, H, A, V].
        bins_BHA: int64 [B, H, A]; what stands in padded steps does not matter.
        is_pad_BH: bool [B, H], True past the episode's end.
        weight_BH1: Multiplies the loss of each step, float [B, H, 1].
    """
    pad_BH1 = of_numbers(is_pad_BH)
    logits_BHAV = logits_BHAV.masked_fill(pad_BH1[..., None], 0.0)
    bins_BHA = bins_BHA.masked_fill(pad_BH1, 0)
    loss = functional.cross_entropy(logits_BHAV.flatten(0, 2), bins_BHA.flatten(), reduction="none")
    loss_BHA = loss.view_as(bins_BHA)
    return masked_mean(loss_BHA if weight_BH1 is None else loss_BHA * weight_BH1, is_pad_BH)


@dataclass(frozen=True)
class BinnedActions:
    """The objective: a network's logits over bins of [−1, 1] for each action number; the likeliest bin is the action.

    Attributes:
        bins: V.
    """

    bins: int = 256

    @classmethod
    def from_options(cls, options: Any) -> "BinnedActions":
        """Build it of a policy's options."""
        return cls(options.bins)

    def actions(self, logits_BHAV: Tensor) -> Tensor:
        """Return actions, float [B, H, A]."""
        return self._values.decode(logits_BHAV.argmax(dim=-1))

    def loss(self, logits_BHAV: Tensor, target_BHA: Tensor, is_pad_BH: Tensor, weight_BH1: Tensor | None) -> Tensor:
        """Return the cross-entropy of the bins that the targets fall in."""
        return cross_entropy(logits_BHAV, self._values.encode(target_BHA), is_pad_BH, weight_BH1=weight_BH1)

    @property
    def _values(self) -> UniformBins:
        return UniformBins(-1.0, 1.0, self.bins)
