"""A vision transformer that returns its patches: image → tokens. No class token, no pooling, no cameras.

At the sizes of SigLIP it is SigLIP's vision tower, and takes its weights (`pretrained`); small, it trains from scratch.

Axis legend: N images, C channels, h, w pixels, P patches, W width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError

EPS = 1e-6


class VisionLayer(nn.Module):
    """Pre-norm self-attention and MLP, with biases."""

    def __init__(self, width: int, n_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(width, eps=EPS)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=EPS)
        self.mlp_in = nn.Linear(width, mlp_dim)
        self.mlp_out = nn.Linear(mlp_dim, width)

    def forward(self, tokens_NPW: Tensor) -> Tensor:
        """Return updated tokens, [N, P, W]."""
        normed = self.attention_norm(tokens_NPW)
        query, key, value = (
            part(normed).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens_NPW = tokens_NPW + self.output(attended.transpose(1, 2).flatten(2))
        hidden = functional.gelu(self.mlp_in(self.mlp_norm(tokens_NPW)), approximate="tanh")
        updated_NPW: Tensor = tokens_NPW + self.mlp_out(hidden)
        return updated_NPW


class VisionTransformer(nn.Module):
    """Patches of images of one size, each with a learned position.

    Args:
        image_size: (height, width) in pixels, multiples of `patch_size`.
        patch_size: Pixels.
        width: W, a multiple of `n_heads`.
        depth: Layers.
        n_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.

    Attributes:
        n_tokens: P, tokens per image.
        width: W.

    Raises:
        ConfigError: Sizes do not divide.
    """

    def __init__(
        self, image_size: tuple[int, int], *, patch_size: int, width: int, depth: int, n_heads: int, mlp_dim: int
    ) -> None:
        super().__init__()
        if image_size[0] % patch_size or image_size[1] % patch_size:
            raise ConfigError(
                f"vision: patch_size={patch_size} must divide the image of {image_size[0]}×{image_size[1]}."
            )
        if width % n_heads:
            raise ConfigError(f"vision: n_heads={n_heads} must divide width={width}.")
        self.n_tokens = (image_size[0] // patch_size) * (image_size[1] // patch_size)
        self.width = width
        self.patches = nn.Conv2d(3, width, patch_size, patch_size)
        self.positions_PW = nn.Parameter(torch.randn(self.n_tokens, width) * width**-0.5)
        self.layers = nn.ModuleList(VisionLayer(width, n_heads, mlp_dim) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return tokens, float [N, P, W], in reading order."""
        tokens_NPW: Tensor = self.patches(images_N3hw).flatten(2).transpose(1, 2) + self.positions_PW
        for layer in self.layers:
            tokens_NPW = layer(tokens_NPW)
        normed_NPW: Tensor = self.final_norm(tokens_NPW)
        return normed_NPW
