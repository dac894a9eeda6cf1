"""Many tokens → few learned ones, each a weighted mean. No images, no positions.

"TokenLearner: What Can 8 Learned Tokens Do for Images and Videos?" (Ryoo et al., 2021).

Axis legend: N images, P tokens given, K tokens learned, D width.
"""

from typing import Literal

import torch
from torch import Tensor, nn

EPS = 1e-6

TokenWeights = Literal["sigmoid", "softmax"]


class TokenLearner(nn.Module):
    """Scores every token once per learned token, and takes the weighted means.

    Args:
        width: D.
        n_tokens: K.
        hidden_dim: Of the scoring MLP.
        weights: How scores become weights: ``sigmoid`` and divided by their sum, or ``softmax``, which can be sharper.
    """

    def __init__(self, width: int, n_tokens: int, hidden_dim: int = 64, weights: TokenWeights = "sigmoid") -> None:
        super().__init__()
        self.weights = weights
        self.norm = nn.LayerNorm(width)
        self.score = nn.Sequential(nn.Linear(width, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, n_tokens))

    def attention(self, tokens_NPD: Tensor) -> Tensor:
        """Return the weights, float [N, K, P]; those of a learned token add up to 1."""
        scores_NKP: Tensor = self.score(self.norm(tokens_NPD)).transpose(1, 2)
        if self.weights == "softmax":
            return scores_NKP.softmax(dim=-1)
        shares_NKP = scores_NKP.sigmoid()
        return shares_NKP / (shares_NKP.sum(dim=-1, keepdim=True) + EPS)

    def forward(self, tokens_NPD: Tensor) -> Tensor:
        """Return learned tokens, float [N, K, D]: means of the tokens as given, not as normalised for scoring."""
        return torch.bmm(self.attention(tokens_NPD), tokens_NPD)
