"""A Gemma-style transformer whose layers stop before and go on after attention. No attention, no masks, no positions.

Layers are cut there so that several experts can meet in one attention (`joint_attention`). Weights correspond one to
one to transformers' Gemma.

Axis legend: B batch, L tokens, D width, N heads, K key-value heads, h head_dim.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.schema import About, Checked


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(Checked):
    """What experts that meet in one attention have in common."""

    depth: Annotated[int, About("Layers.", at_least=1)] = 18
    n_heads: Annotated[int, About("Query heads.", at_least=1)] = 8
    n_kv_heads: Annotated[int, About("Key and value heads; a divisor of `n_heads`.", at_least=1)] = 1
    head_dim: Annotated[int, About("Numbers per head, even.", at_least=1)] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(f"attention: n_kv_heads={self.n_kv_heads} must divide n_heads={self.n_heads}.")
        if self.head_dim % 2:
            raise ConfigError(f"attention: head_dim={self.head_dim} must be even; rotary positions turn pairs.")


@dataclass(frozen=True, kw_only=True)
class ExpertOptions(Checked):
    """What experts may differ in."""

    width: Annotated[int, About("D, numbers per token; even.")]
    mlp_dim: Annotated[int, About("Hidden width of each layer's MLP.", at_least=1)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 2 or self.width % 2:
            raise ConfigError(f"expert: width={self.width} must be an even number of at least 2.")


class RmsNorm(nn.Module):
    """Divides by the root mean square and multiplies by 1 + weight, both in float32; the weight starts at zero."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised input, in its own type."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (wide * scale * (1.0 + self.weight.float())).type_as(x)


class GegluMlp(nn.Module):
    """``down(gelu(gate(x)) * up(x))`` with the tanh form of GELU and no biases."""

    def __init__(self, width: int, mlp_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, mlp_dim, bias=False)
        self.up = nn.Linear(width, mlp_dim, bias=False)
        self.down = nn.Linear(mlp_dim, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the input's shape."""
        y: Tensor = self.down(functional.gelu(self.gate(x), approximate="tanh") * self.up(x))
        return y


class ExpertLayer(nn.Module):
    """One layer: norm and projections before attention; output projection, norm and MLP after it."""

    checkpointed_methods: ClassVar[tuple[str, ...]] = ("project", "finish")

    def __init__(self, options: ExpertOptions, attention: AttentionOptions) -> None:
        super().__init__()
        self.head_dim = attention.head_dim
        self.attention_norm = RmsNorm(options.width)
        self.query = nn.Linear(options.width, attention.n_heads * self.head_dim, bias=False)
        self.key = nn.Linear(options.width, attention.n_kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(options.width, attention.n_kv_heads * self.head_dim, bias=False)
        self.output = nn.Linear(attention.n_heads * self.head_dim, options.width, bias=False)
        self.mlp_norm = RmsNorm(options.width)
        self.mlp = GegluMlp(options.width, options.mlp_dim)

    def project(self, tokens_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [B, L, N, h], keys and values [B, L, K, h], positions not yet applied."""
        normed_BLD = self.attention_norm(tokens_BLD)
        query, key, value = (
            part(normed_BLD).unflatten(-1, (-1, self.head_dim)) for part in (self.query, self.key, self.value)
        )
        return query, key, value

    def finish(self, tokens_BLD: Tensor, attended_BLNh: Tensor) -> Tensor:
        """Return the layer's output [B, L, D] from its input and what its queries gathered."""
        tokens_BLD = tokens_BLD + self.output(attended_BLNh.flatten(2))
        updated_BLD: Tensor = tokens_BLD + self.mlp(self.mlp_norm(tokens_BLD))
        return updated_BLD


class Expert(nn.Module):
    """A stack of layers and a final norm: one set of weights for some of a sequence's tokens.

    Args:
        options: Its own sizes.
        attention: The sizes it shares with the experts that it meets.
    """

    def __init__(self, options: ExpertOptions, attention: AttentionOptions) -> None:
        super().__init__()
        self.options, self.attention = options, attention
        self.layers = nn.ModuleList(ExpertLayer(options, attention) for _ in range(attention.depth))
        self.final_norm = RmsNorm(options.width)

    def layer(self, index: int) -> ExpertLayer:
        """Return layer `index`, counted from 0."""
        return cast(ExpertLayer, self.layers[index])
