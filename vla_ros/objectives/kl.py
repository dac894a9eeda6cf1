"""Divergence of a diagonal Gaussian from the standard one, and drawing from it. No encoder, no weight of the term.

Axis legend: B batch, Z latent numbers.
"""

import torch
from torch import Tensor


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
