"""Heads that make a chunk of noise: diffusion and flow matching, by one small transformer that reads the features.

Axis legend: B batch, Q feature tokens, D their width, H action_horizon, A action_dim, W the transformer's width.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.embeddings import FlowTokens, sine_positions
from vla_ros.networks.attention.transformer import TransformerDecoder
from vla_ros.networks.heads.action_head import ActionHeadBase, HeadLoss
from vla_ros.objectives import Diffusion, draw_flow, integrate_flow, sample_noise
from vla_ros.objectives.ddpm import sample_ddpm

Sampler = Literal["ddim", "ddpm"]


class ActionDenoiser(nn.Module):
    """Noised chunk, its noise level and features → what is to be learned of it: noise or velocity.

    One token per step, which knows its place and the level; they attend to each other and to the features' tokens.

    Args:
        input_dim: D.
        action_dim: A.
        horizon: H.
        width, depth, n_heads: Of the transformer.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    places_HW: Tensor

    def __init__(self, input_dim: int, action_dim: int, horizon: int, *, width: int, depth: int, n_heads: int) -> None:
        super().__init__()
        self.tokens = FlowTokens(action_dim, width)
        self.memory = nn.Linear(input_dim, width)
        self.register_buffer("places_HW", sine_positions(horizon, width), persistent=False)
        self.decoder = TransformerDecoder(depth, width, n_heads, 4 * width, final_norm=True)

    def forward(self, noised_BHA: Tensor, time_B: Tensor, features_BQD: Tensor) -> Tensor:
        """Return float [B, H, A]; time in [0, 1]."""
        tokens_BHW = self.tokens.embed(noised_BHA, time_B) + self.places_HW
        decoded_BHW = self.decoder(tokens_BHW, self.memory(features_BQD))
        return self.tokens.velocity(decoded_BHW)


class _Denoising(ActionHeadBase):
    """What diffusion and flow matching share.

    Args:
        input_dim, action_dim, horizon, n_tokens: As in `ActionHeadBase`.
        width, depth, n_heads: Of the transformer.
        draws: Noise levels drawn per sample in training; the features are computed once for all of them.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        horizon: int = 16,
        n_tokens: int = 1,
        *,
        width: int = 128,
        depth: int = 2,
        n_heads: int = 4,
        draws: int = 1,
    ) -> None:
        super().__init__(input_dim, action_dim, horizon, n_tokens)
        if draws < 1:
            raise ConfigError(f"action head: draws={draws} must be at least 1.")
        self.draws = draws
        self.denoiser = ActionDenoiser(input_dim, action_dim, horizon, width=width, depth=depth, n_heads=n_heads)

    def noise(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return where sampling begins, float [B, H, A]."""
        return sample_noise((len(features), self.horizon, self.action_dim), generator, features.device)


class DiffusionActionHead(_Denoising):
    """Denoising diffusion of the chunk: squared-cosine schedule, the noise is predicted, DDIM or DDPM sampling.

    Args:
        input_dim, action_dim, horizon, n_tokens: As in `ActionHeadBase`.
        diffusion_steps: Noise levels in training.
        sample_steps: Levels visited in sampling; DDPM is meant to visit all of them.
        clip: Estimates of the actions are clipped to [−clip, clip] in sampling; None for actions not so bounded.
        sampler: ``ddim``: nothing is drawn after the first noise. ``ddpm``: noise is drawn at every step.
        width, depth, n_heads, draws: As in `FlowMatchingActionHead`.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        horizon: int = 16,
        diffusion_steps: int = 100,
        n_tokens: int = 1,
        *,
        sample_steps: int = 10,
        clip: float | None = 1.0,
        sampler: Sampler = "ddim",
        width: int = 128,
        depth: int = 2,
        n_heads: int = 4,
        draws: int = 1,
    ) -> None:
        super().__init__(
            input_dim, action_dim, horizon, n_tokens, width=width, depth=depth, n_heads=n_heads, draws=draws
        )
        if sampler not in ("ddim", "ddpm"):
            raise ConfigError(f"sampler '{sampler}' is not one of ddim, ddpm.")
        self.sampler, self.clip = sampler, clip
        self.diffusion = Diffusion(diffusion_steps, sample_steps, clip)

    def compute_loss(
        self, features: Tensor, actions_BHA: Tensor, is_pad_BH: Tensor, generator: torch.Generator | None = None
    ) -> HeadLoss:
        """Return the mean squared error of the noise; arguments as in `ActionHeadBase.compute_loss`."""
        draw = self.diffusion.draw(actions_BHA, is_pad_BH, self.draws, generator)
        tokens_BQD = self.as_tokens(features).repeat_interleave(self.draws, dim=0)
        loss = draw.loss(self.denoiser(draw.noised_BHA, draw.time_B, tokens_BQD))
        return HeadLoss(loss, {"noise_mse": loss.detach()})

    @torch.no_grad()
    def predict(
        self, features: Tensor, generator: torch.Generator | None = None, num_steps: int | None = None
    ) -> Tensor:
        """Return sampled actions, float [B, H, A]; `num_steps` levels are visited, `sample_steps` if not given."""
        tokens_BQD = self.as_tokens(features)
        steps = self.diffusion.sample_steps if num_steps is None else num_steps
        diffusion = Diffusion(self.diffusion.train_steps, steps, self.clip)
        noise_BHA = self.noise(features, generator)

        def predict_noise(x_BHA: Tensor, time_B: Tensor) -> Tensor:
            predicted_BHA: Tensor = self.denoiser(x_BHA, time_B, tokens_BQD)
            return predicted_BHA

        if self.sampler == "ddpm":
            return sample_ddpm(diffusion, predict_noise, noise_BHA, generator)
        return diffusion.sample(predict_noise, noise_BHA)


class FlowMatchingActionHead(_Denoising):
    """Flow matching on the straight path from noise to the chunk, integrated by Euler's method.

    Args:
        input_dim, action_dim, horizon, n_tokens: As in `ActionHeadBase`.
        flow_steps: Of the integration.
        width, depth, n_heads: Of the transformer.
        draws: Times drawn per sample in training; the features are computed once for all of them.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        horizon: int = 16,
        flow_steps: int = 10,
        n_tokens: int = 1,
        *,
        width: int = 128,
        depth: int = 2,
        n_heads: int = 4,
        draws: int = 1,
    ) -> None:
        super().__init__(
            input_dim, action_dim, horizon, n_tokens, width=width, depth=depth, n_heads=n_heads, draws=draws
        )
        if flow_steps < 1:
            raise ConfigError(f"flow_steps={flow_steps} must be at least 1.")
        self.flow_steps = flow_steps

    def compute_loss(
        self, features: Tensor, actions_BHA: Tensor, is_pad_BH: Tensor, generator: torch.Generator | None = None
    ) -> HeadLoss:
        """Return the mean squared error of the velocity; arguments as in `ActionHeadBase.compute_loss`."""
        draw = draw_flow(actions_BHA, is_pad_BH, self.draws, generator)
        tokens_BQD = self.as_tokens(features).repeat_interleave(self.draws, dim=0)
        noised_BHA = draw.noised_BHA.masked_fill(draw.is_pad_BH[..., None], 0.0)
        loss = draw.loss(self.denoiser(noised_BHA, draw.time_B, tokens_BQD))
        return HeadLoss(loss, {"velocity_mse": loss.detach()})

    @torch.no_grad()
    def predict(
        self, features: Tensor, generator: torch.Generator | None = None, num_steps: int | None = None
    ) -> Tensor:
        """Return sampled actions, float [B, H, A], in `num_steps` steps, or `flow_steps` if not given."""
        tokens_BQD = self.as_tokens(features)

        def velocity(x_BHA: Tensor, time_B: Tensor) -> Tensor:
            predicted_BHA: Tensor = self.denoiser(x_BHA, time_B, tokens_BQD)
            return predicted_BHA

        return integrate_flow(velocity, self.noise(features, generator), num_steps or self.flow_steps)
