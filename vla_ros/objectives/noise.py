"""Chance: drawn where the generator is, handed over where the model is; noisy chunks, and Gaussians. No objective.

Axis legend: B batch, H action_horizon, A action_dim, Z latent numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noised:
    """Noisy action chunks that a network is asked about.

    Attributes:
        noised_BHA: float [B, H, A].
        time_B: How far from noise to actions, or the reverse, as the objective counts it; float [B], in [0, 1].
        is_pad_BH: bool [B, H], True past the episode's end; None where all steps count.
    """

    noised_BHA: Tensor
    time_B: Tensor
    is_pad_BH: Tensor | None = None

    @property
    def valid_BH(self) -> Tensor:
        """Which steps count, bool [B, H]."""
        if self.is_pad_BH is not None:
            return ~self.is_pad_BH
        return torch.ones(self.noised_BHA.shape[:2], dtype=torch.bool, device=self.noised_BHA.device)


Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x [B, H, A], time [B]) → what its objective is trained on, float [B, H, A]: a velocity, or the noise."""


def draw_with(
    sampler: Callable[..., Tensor],
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw by one of torch's samplers on the generator's device, and move to `device`.

    Args:
        sampler: ``torch.randn``, ``torch.rand`` or alike; takes a shape, ``generator`` and ``device``.
        shape: Of what is drawn.
        generator: Source of chance; torch's own when None.
        device: Where the draw is wanted; where it was made when None.
    """
    if generator is None:
        return sampler(shape, device=device)
    drawn = sampler(shape, generator=generator, device=generator.device)
    return drawn if device is None else drawn.to(device)


def sample_noise(
    shape: tuple[int, ...], generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Draw standard normal noise, float32; from the generator's device to `device`."""
    return draw_with(torch.randn, shape, generator, device)


def kl_to_standard_normal(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(0, 1)), summed over the latent and averaged over the batch.

    Args:
        mean_BZ: μ, float [B, Z].
        log_variance_BZ: log σ², float [B, Z].
    """
    kl_BZ = 0.5 * (mean_BZ.square() + log_variance_BZ.exp() - 1.0 - log_variance_BZ)
    return kl_BZ.sum(dim=-1).mean()


def sample_gaussian(mean_BZ: Tensor, log_variance_BZ: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return μ + σ·ε, float [B, Z], through which gradients flow to μ and σ."""
    device = mean_BZ.device if generator is None else generator.device
    noise_BZ = torch.randn(mean_BZ.shape, generator=generator, dtype=mean_BZ.dtype, device=device).to(mean_BZ.device)
    return mean_BZ + (0.5 * log_variance_BZ).exp() * noise_BZ
