"""Chance: drawn where the generator is, handed over where the model is. No objective."""

from collections.abc import Callable

import torch
from torch import Tensor


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
