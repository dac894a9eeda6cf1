"""Tokens of a vision encoder → tokens of a language model's width, as many or fewer. No images, no text.

Axis legend: B batch, N tokens given, Q tokens returned, W their width, D the language model's.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.fusion.cross_attention import CrossAttentionBlock
from vla_ros.registry import PROJECTORS


class Projector(nn.Module, ABC):
    """Maps a sequence of tokens; those that are not valid change nothing."""

    def n_tokens(self, n_input_tokens: int) -> int:
        """Return Q for N tokens.

        Raises:
            ConfigError: So many cannot be taken.
        """
        return n_input_tokens

    @abstractmethod
    def forward(self, tokens_BNW: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        """Return float [B, Q, D].

        Args:
            tokens_BNW: float [B, N, W].
            valid_BN: bool [B, N]; None: all are. Where Q is N, what a token that is not valid becomes does not matter.
        """


class MLPProjector(Projector):
    """Two linear maps with GELU between them, each token by itself (LLaVA-1.5).

    Args:
        vision_dim: W.
        llm_dim: D.
        hidden_dim: Between them; None: D.
    """

    def __init__(self, vision_dim: int, llm_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        hidden_dim = hidden_dim or llm_dim
        self.proj = nn.Sequential(nn.Linear(vision_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, llm_dim))

    def forward(self, tokens_BNW: Tensor, valid_BN: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return float [B, N, D]."""
        projected_BND: Tensor = self.proj(tokens_BNW)
        return projected_BND


class PerceiverProjector(Projector):
    """Learned latents read the tokens and each other, layer by layer (Perceiver; Flamingo's resampler).

    Args:
        vision_dim: W.
        llm_dim: D.
        num_latents: Q.
        num_layers: Layers, each a cross-attention to tokens and latents, and a feed-forward.
        num_heads: Attention heads; they must divide D.
    """

    def __init__(
        self, vision_dim: int, llm_dim: int, num_latents: int = 64, num_layers: int = 2, num_heads: int = 8
    ) -> None:
        super().__init__()
        _check_at_least_one(num_latents=num_latents, num_layers=num_layers)
        self.queries = nn.Parameter(torch.randn(1, num_latents, llm_dim) * llm_dim**-0.5)
        self.proj = nn.Linear(vision_dim, llm_dim)
        self.layers = nn.ModuleList(CrossAttentionBlock(llm_dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(llm_dim)

    def n_tokens(self, n_input_tokens: int) -> int:  # noqa: ARG002  # as many as there are latents
        """Return the number of latents."""
        return self.queries.shape[1]

    def forward(self, tokens_BNW: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        """Return float [B, Q, D]."""
        context_BND, latents_BQD = self.proj(tokens_BNW), self.queries.expand(len(tokens_BNW), -1, -1)
        if valid_BN is None:
            valid_BN = torch.ones(context_BND.shape[:2], dtype=torch.bool, device=context_BND.device)
        context_BND = torch.where(valid_BN[..., None], context_BND, 0.0)
        seen = torch.cat([valid_BN, valid_BN.new_ones(latents_BQD.shape[:2])], dim=1)
        for layer in self.layers:
            latents_BQD = layer(latents_BQD, torch.cat([context_BND, latents_BQD], dim=1), seen)
        normed_BQD: Tensor = self.norm(latents_BQD)
        return normed_BQD


class AttentionPoolingProjector(Projector):
    """Learned queries read the tokens once.

    Args:
        vision_dim: W.
        llm_dim: D.
        num_queries: Q.
        num_heads: Attention heads; they must divide D.
    """

    def __init__(self, vision_dim: int, llm_dim: int, num_queries: int = 64, num_heads: int = 8) -> None:
        super().__init__()
        _check_at_least_one(num_queries=num_queries)
        self.queries = nn.Parameter(torch.randn(1, num_queries, llm_dim) * llm_dim**-0.5)
        self.proj = nn.Linear(vision_dim, llm_dim)
        self.block = CrossAttentionBlock(llm_dim, num_heads)
        self.norm = nn.LayerNorm(llm_dim)

    def n_tokens(self, n_input_tokens: int) -> int:  # noqa: ARG002  # as many as there are queries
        """Return the number of queries."""
        return self.queries.shape[1]

    def forward(self, tokens_BNW: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        """Return float [B, Q, D]."""
        context_BND = self.proj(tokens_BNW)
        if valid_BN is None:
            valid_BN = torch.ones(context_BND.shape[:2], dtype=torch.bool, device=context_BND.device)
        context_BND = torch.where(valid_BN[..., None], context_BND, 0.0)
        read_BQD: Tensor = self.norm(self.block(self.queries.expand(len(tokens_BNW), -1, -1), context_BND, valid_BN))
        return read_BQD


class PixelShuffleProjector(Projector):
    """Joins each square of tokens into one, and maps it (SmolVLM's connector).

    Args:
        vision_dim: W.
        llm_dim: D.
        scale: Side of the square.
        grid: (rows, columns) of the tokens; None: they are a square.
    """

    def __init__(self, vision_dim: int, llm_dim: int, scale: int = 2, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        _check_at_least_one(scale=scale)
        self.scale, self.grid = scale, grid
        self.proj = nn.Linear(vision_dim * scale**2, llm_dim, bias=False)

    def n_tokens(self, n_input_tokens: int) -> int:
        """Return N / scale².

        Raises:
            ConfigError: The tokens are no such grid, or the scale does not divide its sides.
        """
        rows, columns = self._grid_of(n_input_tokens)
        return rows // self.scale * (columns // self.scale)

    def forward(self, tokens_BNW: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        """Return float [B, N / scale², D]; a square is whole: all tokens of an image are valid, or none."""
        if valid_BN is not None:
            tokens_BNW = torch.where(valid_BN[..., None], tokens_BNW, 0.0)
        rows, columns = self._grid_of(tokens_BNW.shape[1])
        sizes = (rows // self.scale, self.scale, columns // self.scale, self.scale, tokens_BNW.shape[-1])
        joined_BQW = tokens_BNW.reshape(-1, *sizes).permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)
        projected_BQD: Tensor = self.proj(joined_BQW)
        return projected_BQD

    def _grid_of(self, n_tokens: int) -> tuple[int, int]:
        side = round(n_tokens**0.5)
        rows, columns = self.grid or (side, side)
        if rows * columns != n_tokens:
            raise ConfigError(f"pixel_shuffle: {n_tokens} tokens are no grid of {rows}×{columns}; give the grid.")
        if rows % self.scale or columns % self.scale:
            raise ConfigError(f"pixel_shuffle: scale={self.scale} must divide the grid of {rows}×{columns} tokens.")
        return rows, columns


def build_projector(name: str, vision_dim: int, llm_dim: int, **options: Any) -> Any:
    """Build a projector by its name in `vla_ros.registry.PROJECTORS`.

    Raises:
        ConfigError: No projector has this name, it has no such option, or what it builds is no module.
    """
    factory = PROJECTORS[name]
    try:
        built = factory(vision_dim, llm_dim, **options)
    except TypeError as reason:
        if not options:
            raise
        raise ConfigError(f"projector '{name}' does not take {', '.join(options)}: {reason}.") from reason
    if not isinstance(built, nn.Module):
        raise ConfigError(f"projector '{name}' builds a {type(built).__name__}; expected a torch.nn.Module.")
    return built


def _check_at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name}={count} must be at least 1.")
