"""Heads of a few linear layers: a chunk in one pass, or a normal distribution of it.

Axis legend: B batch, Q feature tokens, D their width, H action_horizon, A action_dim.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.networks.heads.action_head import ActionHeadBase, HeadLoss
from vla_ros.networks.heads.mlp import mlp
from vla_ros.objectives import l1, masked_mean
from vla_ros.objectives.noise import sample_noise

LOG_STD_RANGE = (-20.0, 2.0)


class _Chunked(ActionHeadBase):
    """Two hidden layers, over each of H tokens by itself, or over all tokens together for the whole chunk."""

    def __init__(
        self, input_dim: int, action_dim: int, hidden_dim: int = 256, chunk_size: int = 1, n_tokens: int = 1
    ) -> None:
        super().__init__(input_dim, action_dim, chunk_size, n_tokens)
        self.per_step = n_tokens > 1 and n_tokens == chunk_size
        self.features = mlp(input_dim * (1 if self.per_step else n_tokens), (hidden_dim,), hidden_dim)
        self.hidden_dim, self.n_outputs = hidden_dim, action_dim * (1 if self.per_step else chunk_size)

    @classmethod
    def build(cls, input_dim: int, action_dim: int, horizon: int, n_tokens: int = 1, **options: Any) -> "_Chunked":
        """Build a head for a chunk of `horizon` steps."""
        return cls(input_dim, action_dim, chunk_size=horizon, n_tokens=n_tokens, **options)

    def hidden(self, features: Tensor) -> Tensor:
        """Return float [B, hidden_dim], or [B, H, hidden_dim] where each step has its token."""
        tokens_BQD = self.as_tokens(features)
        hidden: Tensor = self.features(tokens_BQD if self.per_step else tokens_BQD.flatten(1)).relu()
        return hidden

    def shaped(self, numbers: Tensor) -> Tensor:
        """Return what a linear layer made of `hidden` as [B, H, A], or [B, A] where the chunk is one step."""
        chunk_BHA = numbers.reshape(len(numbers), self.horizon, self.action_dim)
        return chunk_BHA if self.horizon > 1 else chunk_BHA[:, 0]


class MLPActionHead(_Chunked):
    """Regresses the chunk: ``forward`` returns [B, A], or [B, H, A] for more than one step.

    Args:
        input_dim: D.
        action_dim: A.
        hidden_dim: Of both hidden layers.
        chunk_size: H.
        n_tokens: Q; if it is H, each step is read from its own token.
    """

    def __init__(
        self, input_dim: int, action_dim: int, hidden_dim: int = 256, chunk_size: int = 1, n_tokens: int = 1
    ) -> None:
        super().__init__(input_dim, action_dim, hidden_dim, chunk_size, n_tokens)
        self.output = nn.Linear(hidden_dim, self.n_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return actions, float [B, H, A] or [B, A]."""
        return self.shaped(self.output(self.hidden(features)))


class GaussianMLPActionHead(_Chunked):
    """An independent normal distribution of every number; trained by its log-likelihood, predicting its mean.

    Args:
        input_dim, action_dim, hidden_dim, chunk_size, n_tokens: As in `MLPActionHead`.
    """

    def __init__(
        self, input_dim: int, action_dim: int, hidden_dim: int = 256, chunk_size: int = 1, n_tokens: int = 1
    ) -> None:
        super().__init__(input_dim, action_dim, hidden_dim, chunk_size, n_tokens)
        self.mean_head = nn.Linear(hidden_dim, self.n_outputs)
        self.log_std_head = nn.Linear(hidden_dim, self.n_outputs)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the deviation, in [−20, 2], each float [B, H, A] or [B, A]."""
        hidden = self.hidden(features)
        log_std = self.shaped(self.log_std_head(hidden)).clamp(*LOG_STD_RANGE)
        return self.shaped(self.mean_head(hidden)), log_std

    def sample(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw actions, with gradients to mean and deviation (reparametrised)."""
        mean, log_std = self(features)
        noise = sample_noise(tuple(mean.shape), generator, mean.device).to(mean.dtype)
        drawn: Tensor = mean + log_std.exp() * noise
        return drawn

    def log_prob(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return the log-density of each number, in nats, shaped as the actions."""
        mean, log_std = (self.as_chunk(part) for part in self(features))
        scaled = (self.as_chunk(actions) - mean) * (-log_std).exp()
        log_density = -0.5 * scaled.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        return log_density[:, 0] if actions.ndim == 2 else log_density

    def compute_loss(
        self,
        features: Tensor,
        actions_BHA: Tensor,
        is_pad_BH: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
    ) -> HeadLoss:
        """Return the mean negative log-density; arguments as in `ActionHeadBase.compute_loss`."""
        actions_BHA = actions_BHA.masked_fill(is_pad_BH[..., None], 0.0)
        loss = -masked_mean(self.log_prob(features, actions_BHA), is_pad_BH)
        return HeadLoss(loss, {"l1": l1(self.predict(features), actions_BHA, is_pad_BH)})

    @torch.no_grad()
    def predict(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002  # the mean is taken
    ) -> Tensor:
        """Return the mean, float [B, H, A]."""
        return self.as_chunk(self(features)[0])
