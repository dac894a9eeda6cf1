"""From a language model's hidden states to features for an action head: four ways, one interface.

Axis legend: B batch, L tokens, D width, Q feature tokens, H action_horizon.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.fusion.cross_attention import CrossAttentionBlock
from vla_ros.registry import READOUTS


class Readout(nn.Module, ABC):
    """Reads features off a sequence.

    Args:
        width: D.
        n_layers: Of the language model.
        horizon: H.

    Attributes:
        n_tokens: Q.
        n_queries: Embeddings that are to be appended to the sequence, `queries`.
    """

    n_tokens = 1
    n_queries = 0

    def __init__(self, width: int, n_layers: int, horizon: int) -> None:
        super().__init__()
        self.width, self.n_layers, self.horizon = width, n_layers, horizon

    def queries(self) -> Tensor | None:
        """Return embeddings to be appended to the sequence, float [Q, D], or None."""
        return None

    @abstractmethod
    def forward(self, states: Sequence[Tensor], valid_BL: Tensor) -> Tensor:
        """Return features, float [B, Q, D].

        Args:
            states: What each layer made, float [B, L, D] each, the last normalised; appended queries are the last ones.
            valid_BL: bool [B, L], False for padding, which changes nothing.
        """


class LastValid(Readout):
    """The hidden state of the last token that is there: padding on the right makes ``[:, -1]`` a pad."""

    def forward(self, states: Sequence[Tensor], valid_BL: Tensor) -> Tensor:
        """Return float [B, 1, D]."""
        places_L = torch.arange(valid_BL.shape[1], device=valid_BL.device)
        last_B = torch.where(valid_BL, places_L, -1).amax(dim=1).clamp(min=0)
        batch_B = torch.arange(len(last_B), device=last_B.device)
        return states[-1][batch_B, last_B][:, None]


class AttentionPool(Readout):
    """One learned query reads the last layer's tokens.

    Args:
        width, n_layers, horizon: As in `Readout`.
        n_heads: Attention heads.
    """

    def __init__(self, width: int, n_layers: int, horizon: int, n_heads: int = 4) -> None:
        super().__init__(width, n_layers, horizon)
        self.query = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.block, self.norm = CrossAttentionBlock(width, n_heads), nn.LayerNorm(width)

    def forward(self, states: Sequence[Tensor], valid_BL: Tensor) -> Tensor:
        """Return float [B, 1, D]."""
        context_BLD = torch.where(valid_BL[..., None], states[-1], 0.0)
        read_BQD: Tensor = self.norm(self.block(self.query.expand(len(context_BLD), -1, -1), context_BLD, valid_BL))
        return read_BQD


class ActionQueries(Readout):
    """Learned embeddings after the text, one per step of the chunk; what the model makes of them are the features.

    Embeddings and not tokens: no tokenizer can split them.
    """

    def __init__(self, width: int, n_layers: int, horizon: int) -> None:
        super().__init__(width, n_layers, horizon)
        self.n_tokens = self.n_queries = horizon
        self.embeddings = nn.Parameter(torch.randn(horizon, width) * 0.02)

    def queries(self) -> Tensor:
        """Return float [H, D]."""
        return self.embeddings

    def forward(self, states: Sequence[Tensor], valid_BL: Tensor) -> Tensor:  # noqa: ARG002  # queries are never padding
        """Return float [B, H, D]."""
        return states[-1][:, -self.horizon :]


class Layerwise(Readout):
    """One learned query per step, through a block per layer of the model, each of which reads that layer's states.

    Args:
        width, n_layers, horizon: As in `Readout`.
        n_heads: Attention heads.
    """

    def __init__(self, width: int, n_layers: int, horizon: int, n_heads: int = 4) -> None:
        super().__init__(width, n_layers, horizon)
        self.n_tokens = horizon
        self.embeddings = nn.Parameter(torch.randn(horizon, width) * width**-0.5)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Sequence[Tensor], valid_BL: Tensor) -> Tensor:
        """Return float [B, H, D].

        Raises:
            ConfigError: There are more or fewer layers than blocks.
        """
        if len(states) != len(self.blocks):
            raise ConfigError(f"readout 'layerwise': {len(states)} layers given, it was built for {len(self.blocks)}.")
        read_BHD = self.embeddings.expand(len(valid_BL), -1, -1)
        seen = torch.cat([valid_BL, valid_BL.new_ones(read_BHD.shape[:2])], dim=1)
        for block, state_BLD in zip(self.blocks, states, strict=True):
            context_BLD = torch.where(valid_BL[..., None], state_BLD, 0.0)
            read_BHD = block(read_BHD, torch.cat([context_BLD, read_BHD], dim=1), seen)
        normed_BHD: Tensor = self.norm(read_BHD)
        return normed_BHD


def build_readout(name: str, width: int, n_layers: int, horizon: int, **options: Any) -> Readout:
    """Build a readout by its name in `vla_ros.registry.READOUTS`.

    Raises:
        ConfigError: No readout has this name, or it cannot be built so.
    """
    factory = READOUTS[name]
    try:
        built: Readout = factory(width, n_layers, horizon, **options)
    except TypeError as reason:
        raise ConfigError(f"readout '{name}' cannot be built with {', '.join(options)}: {reason}.") from reason
    return built
