"""The interface of action heads: features of any trunk → a chunk of actions, with a loss of its own.

Axis legend: B batch, Q feature tokens, D their width, H action_horizon, A action_dim.

A trunk gives one vector per sample, float [B, D], or Q tokens, float [B, Q, D], such as one per step of the chunk.
"""

from abc import ABC
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.objectives import l1, smooth_l1
from vla_ros.registry import ACTION_HEADS


class HeadLoss(NamedTuple):
    """A head's loss.

    Attributes:
        loss: Scalar to differentiate.
        terms: Named scalars for logging, detached.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]


class ActionHeadBase(nn.Module, ABC):
    """Base of action heads. A subclass with nothing but ``forward(features) -> [B, H, A]`` regresses by smooth L1.

    Args:
        input_dim: D.
        action_dim: A.
        horizon: H.
        n_tokens: Q; 1 for a vector.

    Raises:
        ConfigError: One of them is below 1.
    """

    def __init__(self, input_dim: int, action_dim: int, horizon: int = 1, n_tokens: int = 1) -> None:
        super().__init__()
        sizes = {"input_dim": input_dim, "action_dim": action_dim, "horizon": horizon, "n_tokens": n_tokens}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"action head: {name}={size} must be at least 1.")
        self.input_dim, self.action_dim, self.horizon, self.n_tokens = input_dim, action_dim, horizon, n_tokens

    @classmethod
    def build(
        cls, input_dim: int, action_dim: int, horizon: int, n_tokens: int = 1, **options: Any
    ) -> "ActionHeadBase":
        """Build a head for a chunk of `horizon` steps, whatever its own arguments are called."""
        return cls(input_dim, action_dim, horizon=horizon, n_tokens=n_tokens, **options)

    def compute_loss(
        self,
        features: Tensor,
        actions_BHA: Tensor,
        is_pad_BH: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
    ) -> HeadLoss:
        """Return the loss of a batch; padded steps contribute nothing to it, whatever stands in them.

        Args:
            features: float [B, D] or [B, Q, D].
            actions_BHA: Normalised actions, float [B, H, A].
            is_pad_BH: bool [B, H], True past the episode's end.
            generator: Source of sampling noise.
        """
        predicted_BHA = self.as_chunk(self(features))
        error = l1(predicted_BHA.detach(), actions_BHA, is_pad_BH)
        return HeadLoss(smooth_l1(predicted_BHA, actions_BHA, is_pad_BH), {"l1": error})

    @torch.no_grad()
    def predict(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
    ) -> Tensor:
        """Return actions, float [B, H, A], of features as in `compute_loss`."""
        return self.as_chunk(self(features))

    def as_chunk(self, actions: Tensor) -> Tensor:
        """Return actions [B, A], of a single step, as a chunk [B, 1, A]; chunks as they are."""
        return actions[:, None] if actions.ndim == 2 else actions

    def as_tokens(self, features: Tensor) -> Tensor:
        """Return features as tokens, float [B, Q, D]."""
        return features[:, None] if features.ndim == 2 else features


def build_action_head(
    name: str, input_dim: int, action_dim: int, horizon: int, n_tokens: int = 1, **options: Any
) -> ActionHeadBase:
    """Build a head by its name in `vla_ros.registry.ACTION_HEADS`.

    Raises:
        ConfigError: No head has this name, or it cannot be built of these sizes and options.
    """
    kind = ACTION_HEADS[name]
    try:
        built: ActionHeadBase = kind.build(input_dim, action_dim, horizon, n_tokens, **options)
    except TypeError as reason:
        given = ", ".join(options) or "no options"
        raise ConfigError(f"action head '{name}' cannot be built with {given}: {reason}.") from reason
    return built
