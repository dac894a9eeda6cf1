"""A head that predicts a chunk step by step, each from the steps before it: causal, with kept keys and values.

Axis legend: B batch, Q feature tokens, D their width, H action_horizon, A action_dim, V bins, L steps given, W the
transformer's width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks.fusion.cross_attention import CrossAttention
from vla_ros.networks.heads.action_head import ActionHeadBase, HeadLoss
from vla_ros.objectives import UniformBins, cross_entropy, l1

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of the steps so far, each float [B, heads, L, W / heads]; never changed, only replaced."""


class CausalLayer(nn.Module):
    """Pre-norm: attention to the steps so far, attention to the features, feed-forward.

    Args:
        width: W, a multiple of `n_heads`.
        n_heads: Heads.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.memory_attention = CrossAttention(width, n_heads)  # refuses heads that do not divide
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, tokens_BLW: Tensor, memory_BQW: Tensor, before: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Return updated tokens and the keys and values up to the last of them.

        Args:
            tokens_BLW: Float [B, L, W]; with `before`, the steps that come after it.
            memory_BQW: The features.
            before: Keys and values of earlier steps.
        """
        parts = self.query_key_value(self.norm(tokens_BLW)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        if before is not None:
            key, value = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
        length, seen = query.shape[2], key.shape[2]
        mask = torch.ones(length, seen, dtype=torch.bool, device=query.device).tril(seen - length)
        attended = functional.scaled_dot_product_attention(query, key, value, mask)
        tokens_BLW = tokens_BLW + self.output(attended.transpose(1, 2).flatten(2))
        everything = memory_BQW.new_ones(memory_BQW.shape[:2], dtype=torch.bool)
        tokens_BLW = tokens_BLW + self.memory_attention(tokens_BLW, memory_BQW, everything)
        updated_BLW: Tensor = tokens_BLW + self.mlp(tokens_BLW)
        return updated_BLW, (key, value)


class TransformerActionHead(ActionHeadBase):
    """Classes of every number of a step, given the features and the steps before; trained with those of the data.

    The first step is predicted from a learned beginning, each other from the step before it, so that no step sees
    itself. Actions must be normalised to [−1, 1], the range of the bins.

    Args:
        input_dim: D.
        action_dim: A.
        max_seq_len: H.
        num_layers: Layers.
        n_tokens: Q.
        width: W, a multiple of `n_heads`.
        n_heads: Heads.
        bins: V.
        temperature: Of sampling; 0 takes the likeliest class.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        max_seq_len: int = 100,
        num_layers: int = 4,
        n_tokens: int = 1,
        *,
        width: int = 128,
        n_heads: int = 4,
        bins: int = 256,
        temperature: float = 0.0,
    ) -> None:
        super().__init__(input_dim, action_dim, max_seq_len, n_tokens)
        if bins < 2 or temperature < 0.0:
            raise ConfigError(
                f"action head: bins={bins} must be at least 2 and temperature={temperature:g} at least 0."
            )
        self.bins, self.temperature = UniformBins(-1.0, 1.0, bins), temperature
        self.memory = nn.Linear(input_dim, width)
        self.beginning = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.step = nn.Linear(action_dim, width)
        self.places = nn.Parameter(torch.randn(max_seq_len, width) * 0.02)
        self.layers = nn.ModuleList(CausalLayer(width, n_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, action_dim * bins)

    @classmethod
    def build(
        cls, input_dim: int, action_dim: int, horizon: int, n_tokens: int = 1, **options: Any
    ) -> "TransformerActionHead":
        """Build a head for a chunk of `horizon` steps."""
        return cls(input_dim, action_dim, max_seq_len=horizon, n_tokens=n_tokens, **options)

    def forward(self, features: Tensor, actions_BLA: Tensor) -> Tensor:
        """Return logits of all steps given the actions of the data, float [B, L, A, V]; a step's see those before it.

        Args:
            features: float [B, D] or [B, Q, D].
            actions_BLA: Normalised actions, float [B, L, A], at most H steps; the last one is not seen.
        """
        known_BLA = self.bins.decode(self.bins.encode(actions_BLA))  # as they are where the head goes on by itself
        tokens_BLW = self._tokens(known_BLA[:, :-1], start=True)
        return self._logits(tokens_BLW, self.memory(self.as_tokens(features)))[0]

    def compute_loss(
        self,
        features: Tensor,
        actions_BHA: Tensor,
        is_pad_BH: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
    ) -> HeadLoss:
        """Return the mean cross-entropy in nats; arguments as in `ActionHeadBase.compute_loss`."""
        actions_BHA = actions_BHA.masked_fill(is_pad_BH[..., None], 0.0)
        logits_BHAV = self(features, actions_BHA)
        guessed_BHA = self.bins.decode(logits_BHAV.detach().argmax(dim=-1))
        loss = cross_entropy(logits_BHAV, self.bins.encode(actions_BHA), is_pad_BH)
        return HeadLoss(loss, {"l1": l1(guessed_BHA, actions_BHA, is_pad_BH)})

    @torch.no_grad()
    def predict(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return actions, float [B, H, A]: bin centres, step by step; one pass of the layers for each."""
        memory_BQW, steps = self.memory(self.as_tokens(features)), []
        tokens_B1W = self._tokens(memory_BQW.new_zeros(len(memory_BQW), 0, self.action_dim), start=True)
        kept: list[KeysValues] | None = None
        for place in range(self.horizon):
            logits_B1AV, kept = self._logits(tokens_B1W, memory_BQW, kept)
            steps.append(self.bins.decode(self._choose(logits_B1AV, generator)).to(memory_BQW.dtype))
            if place + 1 < self.horizon:
                tokens_B1W = self._tokens(steps[-1], start=False, place=place + 1)
        return torch.cat(steps, dim=1)

    def _tokens(self, actions_BLA: Tensor, *, start: bool, place: int = 0) -> Tensor:
        tokens_BLW: Tensor = self.step(actions_BLA)
        if start:
            tokens_BLW = torch.cat([self.beginning.expand(len(actions_BLA), -1, -1), tokens_BLW], dim=1)
        return tokens_BLW + self.places[place : place + tokens_BLW.shape[1]]

    def _logits(
        self, tokens_BLW: Tensor, memory_BQW: Tensor, before: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        after = []
        for index, layer in enumerate(self.layers):
            tokens_BLW, kept = layer(tokens_BLW, memory_BQW, None if before is None else before[index])
            after.append(kept)
        logits: Tensor = self.output(self.norm(tokens_BLW))
        return logits.reshape(*logits.shape[:2], self.action_dim, self.bins.count), after

    def _choose(self, logits_B1AV: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.temperature:
            return logits_B1AV.argmax(dim=-1)
        shares = (logits_B1AV / self.temperature).softmax(dim=-1)
        device = shares.device if generator is None else generator.device
        drawn = torch.multinomial(shares.flatten(0, -2).to(device), 1, generator=generator)
        return drawn.view(shares.shape[:-1]).to(logits_B1AV.device)
