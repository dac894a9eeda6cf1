"""What an RSSM computes with: categorical latents and their divergence, and a scale for numbers of any size.

After Hafner et al., "Mastering Diverse Domains through World Models" (2023), arXiv:2301.04104. No network.

Axis legend: G latents, V classes of each; leading axes are free.
"""

import torch
from torch import Tensor
from torch.nn import functional


def symlog(values: Tensor) -> Tensor:
    """Return ``sign(x) log(1 + |x|)``: near zero the number itself, far from it its logarithm."""
    return values.sign() * values.abs().log1p()


def symexp(values: Tensor) -> Tensor:
    """Return the inverse of `symlog`."""
    return values.sign() * values.abs().expm1()


def unimix(logits_GV: Tensor, ratio: float = 0.01) -> Tensor:
    """Return the logarithms of ``(1 − ratio) softmax(logits) + ratio / V``: no class is ever impossible.

    Args:
        logits_GV: float [..., G, V].
        ratio: Of the uniform distribution.
    """
    probabilities_GV = (1.0 - ratio) * logits_GV.softmax(dim=-1) + ratio / logits_GV.shape[-1]
    return probabilities_GV.log()


def sample_one_hot(log_probabilities_GV: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one class of each latent, float [..., G, V], with straight-through gradients.

    The value is one-hot; the gradient is that of the probabilities (Bengio et al. 2013).

    Args:
        log_probabilities_GV: float [..., G, V].
        generator: Source of chance.
    """
    probabilities_GV = log_probabilities_GV.exp()
    flat = probabilities_GV.detach().flatten(0, -2)
    drawn = torch.multinomial(flat, 1, generator=generator)[:, 0].view(probabilities_GV.shape[:-1])
    one_hot_GV = functional.one_hot(drawn, probabilities_GV.shape[-1]).to(probabilities_GV.dtype)
    return one_hot_GV + (probabilities_GV - probabilities_GV.detach())


def mode_one_hot(log_probabilities_GV: Tensor) -> Tensor:
    """Return the likeliest class of each latent, float [..., G, V]; no gradient."""
    likeliest = log_probabilities_GV.argmax(dim=-1)
    return functional.one_hot(likeliest, log_probabilities_GV.shape[-1]).to(log_probabilities_GV.dtype)


def categorical_kl(log_p_GV: Tensor, log_q_GV: Tensor) -> Tensor:
    """Return KL(p ‖ q) in nats, summed over the latents, float [...]."""
    return (log_p_GV.exp() * (log_p_GV - log_q_GV)).sum(dim=(-2, -1))


def balanced_kl(posterior_GV: Tensor, prior_GV: Tensor, free_nats: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the divergence of posterior from prior, once as the prior's fault and once as the posterior's.

    Both have the same value. Each is summed over the latents and then held at `free_nats` or more, step by step: a step
    that diverges less has nothing to learn.

    Args:
        posterior_GV: Log probabilities, float [..., G, V].
        prior_GV: Log probabilities, float [..., G, V].
        free_nats: The least value.

    Returns:
        The dynamics term, whose gradient reaches the prior alone, and the representation term, whose gradient reaches
        the posterior alone; float [...] each.
    """
    dynamics = categorical_kl(posterior_GV.detach(), prior_GV)
    representation = categorical_kl(posterior_GV, prior_GV.detach())
    return dynamics.clamp(min=free_nats), representation.clamp(min=free_nats)
