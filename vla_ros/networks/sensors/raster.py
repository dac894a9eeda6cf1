"""An image of distances, or of other numbers, as tokens. What was not measured is a channel of its own, never a zero.

Axis legend: B batch, P pixels (row by row), C channels, N tokens, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens, check_shape


class Raster(SensorEncoder):
    """Convolutions over the numbers and over where there are any; a token for each cell of a grid.

    Args:
        shape: (P, 1), as contracts have depth images and maps.
        width: D.
        rows: Height of the image, which the flat feature does not tell.
        channels: Of the first convolution; the second has twice as many.
        grid: Tokens along height and width.

    Raises:
        ConfigError: The feature is no such image, or has not that many rows.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, rows: int, channels: int = 16, grid: Sequence[int] = (4, 4)
    ) -> None:
        check_shape("raster", shape, "images of one number a pixel [pixels, 1]", axes=2)
        if shape[1] != 1 or rows < 1 or shape[0] % rows:
            raise ConfigError(
                f"sensor encoder 'raster' reads images of one number a pixel; {rows} rows do not fit {list(shape)}."
            )
        super().__init__(grid[0] * grid[1], width)
        self.rows, self.grid = rows, (grid[0], grid[1])
        self.layers = nn.Sequential(
            nn.Conv2d(2, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(self.grid),
        )
        self.output = nn.Linear(2 * channels, width)
        self.position = nn.Parameter(torch.randn(self.n_tokens, width) * 0.02)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode images, float [B, P, 1], NaN where nothing was measured; a cell without a number is not valid."""
        image_BCHW = values.reshape(values.shape[0], 1, self.rows, -1)
        measured_BCHW = torch.isfinite(image_BCHW)
        known = measured_BCHW.to(values.dtype)
        maps = self.layers(torch.cat([torch.where(measured_BCHW, image_BCHW, 0.0), known], dim=1))
        tokens_BND = self.output(maps.flatten(2).transpose(1, 2)) + self.position
        valid_BN = functional.adaptive_avg_pool2d(known, self.grid).flatten(1) > 0
        return SensorTokens(torch.where(valid_BN[..., None], tokens_BND, 0.0), valid_BN)
