"""Fixed positions made of sines and cosines. Numbers only; where they are added is the transformer's matter.

Axis legend: L tokens, h, w pixels of a map, P = h·w, D width.
"""

import math

import torch
from torch import Tensor

from vla_ros.data_types import ConfigError

TEMPERATURE = 10_000.0
EPS = 1e-6


def sine_positions(length: int, width: int) -> Tensor:
    """Return the positions 0 … L−1 of "Attention is all you need", float32 [L, D]: sine and cosine by turns.

    Raises:
        ConfigError: The width is odd.
    """
    _check_width(width, 2)
    return _waves(torch.arange(length, dtype=torch.float64), width).float()


def sine_positions_2d(height: int, width_px: int, width: int) -> Tensor:
    """Return positions in a map, float32 [P, D], in reading order: the first half says the row, the second the column.

    Rows and columns are counted from 1 and scaled to 2π at the last one (DETR), whatever the map's size.

    Raises:
        ConfigError: The width is no multiple of 4.
    """
    _check_width(width, 4)
    rows, columns = (
        torch.arange(1, count + 1, dtype=torch.float64) / (count + EPS) * 2.0 * math.pi for count in (height, width_px)
    )
    down_hD = _waves(rows, width // 2)[:, None].expand(-1, width_px, -1)
    right_wD = _waves(columns, width // 2)[None].expand(height, -1, -1)
    return torch.cat([down_hD, right_wD], dim=-1).flatten(0, 1).float()


def _waves(values_L: Tensor, width: int) -> Tensor:
    frequency_F = TEMPERATURE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles_LF = values_L[:, None] * frequency_F
    return torch.stack([angles_LF.sin(), angles_LF.cos()], dim=-1).flatten(1)


def _check_width(width: int, multiple: int) -> None:
    if width % multiple:
        raise ConfigError(f"sine positions need a width that is a multiple of {multiple}, got {width}.")
