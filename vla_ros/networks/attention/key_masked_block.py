"""Transformer block whose attention leaves out some tokens: pre-norm, queries, keys and values without biases.

Axis legend: B batch, L tokens, D width.
"""

from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError


class KeyMaskedBlock(nn.Module):
    """Self-attention, scaled by head_dim^-0.5, and a feed-forward of `mlp_ratio` times the width.

    Args:
        width: D, a multiple of `n_heads`.
        n_heads: Heads.
        mlp_ratio: Hidden width of the feed-forward, as a multiple of D.
        dropout: Of attention weights and of what both parts add, in training.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    def __init__(self, width: int, n_heads: int, mlp_ratio: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if width % n_heads:
            raise ConfigError(f"n_heads={n_heads} must divide width={width}.")
        self.n_heads, self.dropout_share = n_heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_BLD: Tensor, visible_BL: Tensor | None = None) -> Tensor:
        """Return updated tokens, [B, L, D].

        Args:
            tokens_BLD: float [B, L, D].
            visible_BL: bool [L] or [B, L]; no token attends to one that is not visible. At least one must be. None:
                all are.
        """
        normed = self.attention_norm(tokens_BLD)
        query, key, value = (
            part(normed).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mask = None if visible_BL is None else visible_BL[..., None, None, :]
        share = self.dropout_share if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, mask, share)
        tokens_BLD = tokens_BLD + self.dropout(self.output(attended.transpose(1, 2).flatten(2)))
        updated_BLD: Tensor = tokens_BLD + self.mlp(self.mlp_norm(tokens_BLD))
        return updated_BLD
