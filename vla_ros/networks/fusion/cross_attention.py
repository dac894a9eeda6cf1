"""One set of tokens reads another: pre-norm cross-attention, alone or with a feed-forward, residual.

Axis legend: B batch, N queries, M keys, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError


class CrossAttention(nn.Module):
    """What queries read of context tokens; nothing where a sample's context holds none that is valid.

    Args:
        width: D, a multiple of `n_heads`.
        n_heads: Heads.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        if width % n_heads:
            raise ConfigError(f"n_heads={n_heads} must divide width={width}.")
        self.n_heads = n_heads
        self.query_norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, queries_BND: Tensor, context_BMD: Tensor, valid_BM: Tensor) -> Tensor:
        """Return what is to be added to the queries, float [B, N, D].

        Args:
            queries_BND: float [B, N, D].
            context_BMD: float [B, M, D], finite.
            valid_BM: bool [B, M]; the others are not attended to.
        """
        query = self._heads(self.query(self.query_norm(queries_BND)))
        key, value = self.key_value(self.context_norm(context_BMD)).chunk(2, dim=-1)
        # a row that may see nothing would be NaN: it sees everything, and what it read is thrown away
        any_B = valid_BM.any(dim=1)
        visible_BM = valid_BM | ~any_B[:, None]
        read = functional.scaled_dot_product_attention(
            query, self._heads(key), self._heads(value), visible_BM[:, None, None]
        )
        output_BND: Tensor = self.output(read.transpose(1, 2).flatten(2))
        return torch.where(any_B[:, None, None], output_BND, 0.0)

    def _heads(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        return tokens.reshape(batch, length, self.n_heads, width // self.n_heads).transpose(1, 2)


class CrossAttentionBlock(nn.Module):
    """Cross-attention and a feed-forward, both residual.

    Args:
        width: D, a multiple of `n_heads`.
        n_heads: Heads.
        mlp_ratio: Hidden width of the feed-forward, as a multiple of D.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    def __init__(self, width: int, n_heads: int, mlp_ratio: int = 2) -> None:
        super().__init__()
        self.attention = CrossAttention(width, n_heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width)
        )

    def forward(self, queries_BND: Tensor, context_BMD: Tensor, valid_BM: Tensor) -> Tensor:
        """Return updated queries, float [B, N, D]; arguments as `CrossAttention.forward`."""
        queries_BND = queries_BND + self.attention(queries_BND, context_BMD, valid_BM)
        updated_BND: Tensor = queries_BND + self.mlp(queries_BND)
        return updated_BND
