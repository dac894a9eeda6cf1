"""Radar → tokens: a range-Doppler map, or point targets (x, y, vx, vy, rcs).

Axis legend: B batch, N points, F numbers per point, C channels, h ranges, w Doppler bins, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_ros.networks.sensors.point_sampling import split_points
from vla_ros.networks.sensors.pointnet2 import SharedMlp
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens, check_shape


class RangeDoppler(SensorEncoder):
    """A range-Doppler map's tokens. Doppler is kept apart from range: no pooling over the whole map.

    Args:
        shape: (C, h, w); or (h * w, 1), as contracts have maps (`image.map`), which needs `rows`.
        width: D.
        channels: Of the first convolution; the second has twice as many.
        grid: Tokens along range and along Doppler.
        rows: h of a flat map.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        channels: int = 16,
        grid: Sequence[int] = (4, 4),
        rows: int | None = None,
    ) -> None:
        if rows is not None and len(shape) == 2 and shape[1] == 1 and rows > 0 and shape[0] % rows == 0:
            shape = (1, rows, shape[0] // rows)
        check_shape("range_doppler", shape, "maps [C, ranges, Doppler bins], or flat ones with their rows", axes=3)
        super().__init__(grid[0] * grid[1], width)
        self.shape = shape
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((grid[0], grid[1])),
        )
        self.output = nn.Linear(2 * channels, width)
        self.position = nn.Parameter(torch.randn(self.n_tokens, width) * 0.02)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode maps, float [B, C, h, w] or flat; a map with a NaN counts as not measured."""
        values = values.reshape(values.shape[0], *self.shape)
        valid_B = torch.isfinite(values).flatten(1).all(dim=1)
        maps = self.layers(torch.where(valid_B[:, None, None, None], values, 0.0))
        tokens_BND = self.output(maps.flatten(2).transpose(1, 2)) + self.position
        return SensorTokens(
            torch.where(valid_B[:, None, None], tokens_BND, 0.0), valid_B[:, None].expand(-1, self.n_tokens)
        )


class RadarPoints(SensorEncoder):
    """Point targets: a token for each, or the largest feature of all as one. A set: their order means nothing.

    Args:
        shape: (N, F).
        width: D.
        channels: Of the layers that each point passes.
        pooled: One token for the scan in place of one for each target.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, channels: Sequence[int] = (64, 128), pooled: bool = False
    ) -> None:
        check_shape("radar_points", shape, "points [N, F]", axes=2)
        super().__init__(1 if pooled else shape[0], width)
        self.pooled = pooled
        self.layers = SharedMlp(shape[1], channels)
        self.output = nn.Linear(channels[-1], width)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode points, float [B, N, F], rows of NaN where there is none."""
        points_BNF, valid_BN = split_points(values)
        features = self.output(self.layers(points_BNF))
        if not self.pooled:
            return SensorTokens(torch.where(valid_BN[..., None], features, 0.0), valid_BN)
        largest = features.masked_fill(~valid_BN[..., None], -torch.inf).amax(dim=1)
        valid_B = valid_BN.any(dim=1)
        return SensorTokens(torch.where(valid_B[:, None], largest, 0.0)[:, None], valid_B[:, None])
