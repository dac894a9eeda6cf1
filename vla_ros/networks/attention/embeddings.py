"""Text, positions in a sequence or map, noise levels and noised actions as vectors of a transformer's width.

Axis legend: B batch, H action_horizon, A action_dim, L tokens, h, w pixels of a map, P = h·w, D width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError

TEMPERATURE = 10_000.0
EPS = 1e-6

MIN_PERIOD = 4e-3
MAX_PERIOD = 4.0


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


class FlowTokens(nn.Module):
    """Noised actions and how noisy they are → tokens, and a denoiser's outputs → velocities.

    Args:
        action_dim: A.
        width: D.
        output_dim: Numbers per step that `velocity` returns; None: A. 0: there is no output layer.
    """

    def __init__(self, action_dim: int, width: int, output_dim: int | None = None) -> None:
        super().__init__()
        output_dim = action_dim if output_dim is None else output_dim
        self.width = width
        self.action_in = nn.Linear(action_dim, width)
        self.time_in = nn.Linear(2 * width, width)
        self.time_out = nn.Linear(width, width)
        self.velocity_out = nn.Linear(width, output_dim) if output_dim else nn.Identity()

    def embed(self, noised_BHA: Tensor, time_B: Tensor) -> Tensor:
        """Return one token per step, float [B, H, D]: ``out(swish(in([action, time])))``."""
        action_BHD = self.action_in(noised_BHA)
        time_BHD = time_embedding(time_B, self.width)[:, None].expand_as(action_BHD)
        tokens_BHD: Tensor = self.time_out(functional.silu(self.time_in(torch.cat([action_BHD, time_BHD], dim=-1))))
        return tokens_BHD

    def velocity(self, outputs_BHD: Tensor) -> Tensor:
        """Return velocities, float [B, H, A], of the expert's outputs."""
        velocity_BHA: Tensor = self.velocity_out(outputs_BHD)
        return velocity_BHA


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


class TextTokens(nn.Module):
    """Embeds text tokens, multiplied by √width as Gemma does.

    Args:
        vocabulary_size: Tokens known.
        width: D.
    """

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.embedding = nn.Embedding(vocabulary_size, width)
        nn.init.normal_(self.embedding.weight, std=1.0 / self.scale)  # scaled, they have unit variance

    def forward(self, text_BL: Tensor, valid_BL: Tensor) -> Tensor:
        """Return tokens, float [B, L, D], of int64 [B, L]; what stands in padding does not matter."""
        tokens_BLD: Tensor = self.embedding(text_BL.masked_fill(~valid_BL, 0)) * self.scale
        return tokens_BLD
