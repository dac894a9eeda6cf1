"""Transformer layers whose positions may be added to queries and keys of every layer. Know no token's meaning.

Without positions the post-norm layers are those of `torch.nn.TransformerEncoder` and `TransformerDecoder`; with them,
those of DETR, which the published ACT uses. The pre-norm encoder layer is that of a vision transformer.

Axis legend: B batch, L tokens, Q queries, K keys, D width. In masks, True means "is there".
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError

Activation = Literal["relu", "gelu"]


class Attention(nn.Module):
    """Multi-head attention with biases.

    Args:
        width: D, a multiple of `n_heads`.
        n_heads: Heads.
        dropout: Share of attention weights dropped in training.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    def __init__(self, width: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % n_heads:
            raise ConfigError(f"n_heads={n_heads} must divide width={width}.")
        self.n_heads, self.dropout = n_heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query_BQD: Tensor, key_BKD: Tensor, value_BKD: Tensor, valid_BK: Tensor | None = None) -> Tensor:
        """Return what each query attends to, [B, Q, D].

        Args:
            query_BQD: Queries.
            key_BKD: Keys.
            value_BKD: Values.
            valid_BK: bool [B, K]; at least one key of each sample must be valid. None: all are.
        """
        query, key, value = (
            part(tokens).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part, tokens in ((self.query, query_BQD), (self.key, key_BKD), (self.value, value_BKD))
        )
        mask = None if valid_BK is None else valid_BK[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, mask, dropout)
        output_BQD: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output_BQD


class FeedForward(nn.Module):
    """Two linear maps with an activation between them."""

    def __init__(self, width: int, mlp_dim: int, dropout: float = 0.0, activation: Activation = "relu") -> None:
        super().__init__()
        self.inner = nn.Linear(width, mlp_dim)
        self.activation = nn.ReLU() if activation == "relu" else nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(mlp_dim, width)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return [B, L, D]."""
        updated_BLD: Tensor = self.outer(self.dropout(self.activation(self.inner(tokens_BLD))))
        return updated_BLD


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward.

    Args:
        width: D.
        n_heads: Heads.
        mlp_dim: Hidden width of the feed-forward.
        dropout: In training.
        activation: Of the feed-forward.
        pre_norm: Normalise before each part instead of after it.
        eps: Of the norms.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        mlp_dim: int,
        dropout: float = 0.0,
        *,
        activation: Activation = "relu",
        pre_norm: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = Attention(width, n_heads, dropout)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, mlp_dim, dropout, activation)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_BLD: Tensor, positions_LD: Tensor | None = None, valid_BL: Tensor | None = None) -> Tensor:
        """Return updated tokens, [B, L, D]; arguments as in `TransformerEncoder`."""
        tokens_BLD = tokens_BLD + self._dropped(self._attend(tokens_BLD, positions_LD, valid_BL))
        if self.pre_norm:
            return tokens_BLD + self._dropped(self.mlp(self.mlp_norm(tokens_BLD)))
        tokens_BLD = self.attention_norm(tokens_BLD)
        updated_BLD: Tensor = self.mlp_norm(tokens_BLD + self._dropped(self.mlp(tokens_BLD)))
        return updated_BLD

    def _dropped(self, tokens_BLD: Tensor) -> Tensor:
        dropped_BLD: Tensor = self.dropout(tokens_BLD)
        return dropped_BLD

    def _attend(self, tokens_BLD: Tensor, positions_LD: Tensor | None, valid_BL: Tensor | None) -> Tensor:
        values = self.attention_norm(tokens_BLD) if self.pre_norm else tokens_BLD
        placed = _placed(values, positions_LD)
        attended_BLD: Tensor = self.attention(placed, placed, values, valid_BL)
        return attended_BLD


class DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to a memory, and feed-forward; normalised after each.

    Args:
        width: D.
        n_heads: Heads.
        mlp_dim: Hidden width of the feed-forward.
        dropout: In training.
    """

    def __init__(self, width: int, n_heads: int, mlp_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, n_heads, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.memory_attention = Attention(width, n_heads, dropout)
        self.memory_norm = nn.LayerNorm(width)
        self.mlp = FeedForward(width, mlp_dim, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens_BQD: Tensor,
        memory_BKD: Tensor,
        valid_BK: Tensor | None = None,
        positions_QD: Tensor | None = None,
        memory_positions_KD: Tensor | None = None,
    ) -> Tensor:
        """Return updated tokens, [B, Q, D]; arguments as in `TransformerDecoder`."""
        placed = _placed(tokens_BQD, positions_QD)
        tokens_BQD = self.attention_norm(tokens_BQD + self.dropout(self.attention(placed, placed, tokens_BQD)))
        keys = _placed(memory_BKD, memory_positions_KD)
        seen = self.memory_attention(_placed(tokens_BQD, positions_QD), keys, memory_BKD, valid_BK)
        tokens_BQD = self.memory_norm(tokens_BQD + self.dropout(seen))
        updated_BQD: Tensor = self.mlp_norm(tokens_BQD + self.dropout(self.mlp(tokens_BQD)))
        return updated_BQD


class TransformerEncoder(nn.Module):
    """Post-norm encoder layers, one after the other; arguments as in `EncoderLayer`."""

    def __init__(self, depth: int, width: int, n_heads: int, mlp_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, n_heads, mlp_dim, dropout) for _ in range(depth))

    def forward(self, tokens_BLD: Tensor, positions_LD: Tensor | None = None, valid_BL: Tensor | None = None) -> Tensor:
        """Return encoded tokens, [B, L, D].

        Args:
            tokens_BLD: float [B, L, D].
            positions_LD: Added to queries and keys of every layer, to no value; None adds nothing.
            valid_BL: bool [B, L]; no token attends to one that is not valid. None: all are.
        """
        for layer in self.layers:
            tokens_BLD = layer(tokens_BLD, positions_LD, valid_BL)
        return tokens_BLD


class TransformerDecoder(nn.Module):
    """Post-norm decoder layers, all of them used.

    Args:
        depth: Layers.
        width, n_heads, mlp_dim, dropout: As in `DecoderLayer`.
        final_norm: Normalise the last layer's output once more, as DETR does.
    """

    def __init__(
        self, depth: int, width: int, n_heads: int, mlp_dim: int, dropout: float = 0.0, *, final_norm: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, n_heads, mlp_dim, dropout) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width) if final_norm else nn.Identity()

    def forward(
        self,
        tokens_BQD: Tensor,
        memory_BKD: Tensor,
        valid_BK: Tensor | None = None,
        positions_QD: Tensor | None = None,
        memory_positions_KD: Tensor | None = None,
    ) -> Tensor:
        """Return decoded tokens, [B, Q, D].

        Args:
            tokens_BQD: float [B, Q, D].
            memory_BKD: What they attend to, float [B, K, D].
            valid_BK: bool [B, K], of the memory. None: all are valid.
            positions_QD: Added to the tokens wherever they are queries or keys, in every layer; None adds nothing.
            memory_positions_KD: Added to the memory's keys in every layer; None adds nothing.
        """
        for layer in self.layers:
            tokens_BQD = layer(tokens_BQD, memory_BKD, valid_BK, positions_QD, memory_positions_KD)
        decoded_BQD: Tensor = self.final_norm(tokens_BQD)
        return decoded_BQD


def _placed(tokens_BLD: Tensor, positions_LD: Tensor | None) -> Tensor:
    return tokens_BLD if positions_LD is None else torch.add(tokens_BLD, positions_LD)
