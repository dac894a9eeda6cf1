"""Sine-cosine embedding of the flow's time. No learned weights.

Axis legend: B batch, D width.
"""

import math

import torch
from torch import Tensor

MIN_PERIOD = 4e-3
MAX_PERIOD = 4.0


def time_embedding(
    time_B: Tensor, width: int, min_period: float = MIN_PERIOD, max_period: float = MAX_PERIOD
) -> Tensor:
    """Embed times in [0, 1] as sines, then cosines, of geometrically spaced periods.

    The periods suit that interval: those of word positions (up to 10,000) would leave most numbers constant on it. The
    shortest one turns 250 times, so angles are computed in float64.

    Args:
        time_B: float [B].
        width: D, an even number.
        min_period: Of the first number.
        max_period: Of the last.

    Returns:
        float32 [B, D].
    """
    spacing = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64, device=time_B.device)
    period = min_period * (max_period / min_period) ** spacing
    angle = time_B.double()[:, None] * (2.0 * math.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()
