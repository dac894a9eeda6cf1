"""Stacks of blocks: encoder, decoder, and a sequence of one length in which each token sees those before it.

Without positions the post-norm stacks are `torch.nn.TransformerEncoder` and `TransformerDecoder`; with them, DETR's,
which the published ACT uses.

Axis legend: B batch, L tokens, Q queries, K keys, D width. In masks, True means "may be attended to".
"""

from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.networks.attention.block import Activation, Block, BlockOptions

_TORCHS_ORDER = ("attention", "mlp", "attention_norm", "mlp_norm")


class EncoderLayer(Block):
    """A block with biases everywhere; arguments as in `BlockOptions`."""

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
        options = BlockOptions(
            width=width,
            n_heads=n_heads,
            mlp_dim=mlp_dim,
            dropout=dropout,
            activation=activation,
            norm_first=pre_norm,
            eps=eps,
        )
        super().__init__(options, ("attention", "attention_norm", "mlp", "mlp_norm"))


class TransformerEncoder(nn.Module):
    """Post-norm layers, one after the other; arguments as in `EncoderLayer`."""

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
    """Post-norm layers that also attend to a memory, all of them used.

    Args:
        depth: Layers.
        width, n_heads, mlp_dim, dropout: As in `BlockOptions`.
        final_norm: Normalise the last layer's output once more, as DETR does.
    """

    def __init__(
        self, depth: int, width: int, n_heads: int, mlp_dim: int, dropout: float = 0.0, *, final_norm: bool = False
    ) -> None:
        super().__init__()
        options = BlockOptions(width=width, n_heads=n_heads, mlp_dim=mlp_dim, dropout=dropout, memory=True)
        self.layers = nn.ModuleList(Block(options) for _ in range(depth))
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
        memory = {"memory_BKD": memory_BKD, "memory_allow": valid_BK, "memory_positions_KD": memory_positions_KD}
        for layer in self.layers:
            tokens_BQD = layer(tokens_BQD, positions_QD, **memory)
        decoded_BQD: Tensor = self.final_norm(tokens_BQD)
        return decoded_BQD


class CausalTransformer(nn.Module):
    """Pre-norm blocks over a sequence of one length with learned positions; no norm after the last one.

    Args:
        length: L.
        width: D, a multiple of `n_heads`.
        depth, n_heads, mlp_dim, dropout: Of the blocks.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    before: Tensor

    def __init__(self, length: int, width: int, *, depth: int, n_heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        options = BlockOptions(
            width=width, n_heads=n_heads, mlp_dim=mlp_dim, dropout=dropout, norm_first=True, joined=True
        )
        self.positions_LD = nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.positions_LD, std=0.02)
        self.layers = nn.ModuleList(Block(options, _TORCHS_ORDER) for _ in range(depth))
        self.register_buffer("before", torch.ones(length, length, dtype=torch.bool).tril()[None], persistent=False)

    def forward(self, tokens_BLD: Tensor, valid_BL: Tensor | None = None) -> Tensor:
        """Return updated tokens, float [B, L, D].

        Args:
            tokens_BLD: float [B, L, D].
            valid_BL: bool [B, L]; no other token attends to one that is not valid. None: all are.
        """
        tokens_BLD = tokens_BLD + self.positions_LD
        allow = self.before
        if valid_BL is not None:  # a token always sees itself, or a softmax over nothing would be NaN
            itself_LL = torch.eye(allow.shape[1], dtype=torch.bool, device=allow.device)
            allow = (allow & valid_BL[:, None, :]) | itself_LL
        for layer in self.layers:
            tokens_BLD = cast("Tensor", layer(tokens_BLD, allow=allow))
        return tokens_BLD
