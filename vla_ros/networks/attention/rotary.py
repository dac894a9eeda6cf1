"""Rotary position embedding. No attention, no learned weights.

Axis legend: B batch, L tokens, N heads, h head_dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ROPE_BASE = 10_000.0


@dataclass(frozen=True)
class RotaryAngles:
    """Cosines and sines of the angles of some tokens, float32 [B, L, 1, h / 2]; the same in every layer."""

    cos: Tensor
    sin: Tensor


def rotary_angles(positions_BL: Tensor, head_dim: int, base: float = ROPE_BASE) -> RotaryAngles:
    """Return the angles ``position * base ** (-2 i / head_dim)`` for i up to half of an even head_dim.

    Args:
        positions_BL: int [B, L].
        head_dim: h.
        base: Sets the slowest angle.
    """
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions_BL.device) / head_dim
    angle = positions_BL[:, :, None, None].float() / base**exponent
    return RotaryAngles(angle.cos(), angle.sin())


def apply_rotary(x_BLNh: Tensor, angles: RotaryAngles) -> Tensor:
    """Turn queries or keys, float [B, L, N, h], by their tokens' angles, in float32.

    Number i of the first half and number i of the second half form a pair: Gemma's and LLaMA's convention.
    """
    half = x_BLNh.shape[-1] // 2
    wide = x_BLNh.float()
    first, second = wide[..., :half], wide[..., half:]
    turned = torch.cat([first * angles.cos - second * angles.sin, second * angles.cos + first * angles.sin], dim=-1)
    return turned.type_as(x_BLNh)
