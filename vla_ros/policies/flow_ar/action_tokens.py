"""Embedding of the action tokens fed to the language-model expert, and their logits. No attention, no sampling.

Axis legend: B batch, R = H × A action tokens, step by step and number by number, D width, V bins.
"""

import math

import torch
from torch import Tensor, nn


class ActionTokens(nn.Module):
    """A table of bins and a beginning, one vector per place in the chunk, and an output layer.

    Args:
        bins: V.
        count: R.
        width: D.
    """

    def __init__(self, bins: int, count: int, width: int) -> None:
        super().__init__()
        self.beginning = bins  # the index after the last bin
        self.scale = math.sqrt(width)
        self.embedding = nn.Embedding(bins + 1, width)
        self.place_RD = nn.Parameter(torch.randn(count, width))
        self.logits_out = nn.Linear(width, bins)
        nn.init.normal_(self.embedding.weight, std=1.0 / self.scale)  # scaled, they have unit variance

    def shifted(self, bins_BR: Tensor) -> Tensor:
        """Return what to feed so that token j predicts bin j: the beginning, then all bins but the last."""
        return torch.cat([torch.full_like(bins_BR[:, :1], self.beginning), bins_BR[:, :-1]], dim=1)

    def embed(self, fed_BR: Tensor, first: int = 0) -> Tensor:
        """Return tokens, float [B, R', D], of fed bins int64 [B, R'] that are to predict bins `first` and on."""
        tokens_BRD: Tensor = self.embedding(fed_BR) * self.scale
        return tokens_BRD + self.place_RD[first : first + fed_BR.shape[1]]

    def logits(self, outputs_BRD: Tensor) -> Tensor:
        """Return logits, float [B, R', V]."""
        logits_BRV: Tensor = self.logits_out(outputs_BRD)
        return logits_BRV
