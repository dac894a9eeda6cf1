"""Ancestral sampling of denoising diffusion: noise is drawn at every step (Ho et al., 2020).

Axis legend: B batch, H action_horizon, A action_dim.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vla_ros.objectives.diffusion import Diffusion
from vla_ros.objectives.noise import sample_noise


def ddpm_step(
    diffusion: Diffusion, x_BHA: Tensor, noise_BHA: Tensor, step: int, target: int | None, *, fresh_BHA: Tensor
) -> Tensor:
    """Draw from the posterior of a lower noise level.

    Args:
        diffusion: The schedule, and whether estimates of the actions are clipped.
        x_BHA: Chunk at level `step`, float [B, H, A].
        noise_BHA: Noise predicted in it.
        step: Level of the chunk.
        target: Level to reach; None for no noise at all, where the estimate of the actions is returned.
        fresh_BHA: Standard normal noise of this step.
    """
    alpha_bar = diffusion.alpha_bars[step]
    target_alpha_bar = 1.0 if target is None else diffusion.alpha_bars[target]
    alpha = alpha_bar / target_alpha_bar
    actions_BHA = (x_BHA - math.sqrt(1.0 - alpha_bar) * noise_BHA) / math.sqrt(alpha_bar)
    if diffusion.clip is not None:
        actions_BHA = actions_BHA.clamp(-diffusion.clip, diffusion.clip)
    of_actions = math.sqrt(target_alpha_bar) * (1.0 - alpha) / (1.0 - alpha_bar)
    of_x = math.sqrt(alpha) * (1.0 - target_alpha_bar) / (1.0 - alpha_bar)
    deviation = math.sqrt((1.0 - target_alpha_bar) / (1.0 - alpha_bar) * (1.0 - alpha))
    return of_actions * actions_BHA + of_x * x_BHA + deviation * fresh_BHA


def sample_ddpm(
    diffusion: Diffusion,
    predict_noise: Callable[[Tensor, Tensor], Tensor],
    noise_BHA: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Go from noise to actions, through the levels of ``diffusion.timesteps``; arguments as in `Diffusion.sample`."""
    x_BHA, steps = noise_BHA, diffusion.timesteps
    for step, target in zip(steps, (*steps[1:], None), strict=True):
        time_B = torch.full((len(x_BHA),), step / diffusion.train_steps, device=x_BHA.device)
        fresh_BHA = sample_noise(tuple(x_BHA.shape), generator, x_BHA.device).to(x_BHA.dtype)
        x_BHA = ddpm_step(diffusion, x_BHA, predict_noise(x_BHA, time_B), step, target, fresh_BHA=fresh_BHA)
    return x_BHA
