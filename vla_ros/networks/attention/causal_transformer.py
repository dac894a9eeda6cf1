"""Pre-norm transformer over a sequence of one length, each token seeing those before it. No tokens' meaning.

Axis legend: B batch, L tokens, D width.
"""

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError


class CausalTransformer(nn.Module):
    """Learned positions and torch's encoder layers under a causal mask; no norm after the last layer.

    Args:
        length: L.
        width: D, a multiple of `n_heads`.
        depth, n_heads, mlp_dim, dropout: Of the layers.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    hidden: Tensor

    def __init__(self, length: int, width: int, *, depth: int, n_heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        if width % n_heads:
            raise ConfigError(f"n_heads={n_heads} must divide the tokens' width {width}.")
        self.positions_LD = nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.positions_LD, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, n_heads, mlp_dim, dropout, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        # nn.TransformerEncoderLayer's polarity: True is hidden
        self.register_buffer("hidden", torch.ones(length, length, dtype=torch.bool).triu(1), persistent=False)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return updated tokens, float [B, L, D]."""
        tokens_BLD = tokens_BLD + self.positions_LD
        for layer in self.layers:
            tokens_BLD = layer(tokens_BLD, src_mask=self.hidden)
        return tokens_BLD
