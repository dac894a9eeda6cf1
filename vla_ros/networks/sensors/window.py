"""Windows of samples on the policy's grid (IMU, wrench, effort) → one token. Channels come standardised; gravity stays.

Axis legend: B batch, K samples of a window, F channels, D width.
"""

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens, check_shape, one_token


class LstmWindow(SensorEncoder):
    """An LSTM over a window; its last output is the token. Six channels, width 128, two layers: 201,728 parameters.

    Args:
        shape: (K, F).
        width: D.
        n_layers: Layers.
    """

    def __init__(self, shape: tuple[int, ...], width: int, n_layers: int = 2) -> None:
        check_shape("lstm", shape, "windows [K, F]", axes=2)
        super().__init__(1, width)
        self.lstm = nn.LSTM(shape[1], width, num_layers=n_layers, batch_first=True)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode windows, float [B, K, F], oldest sample first. A window with a NaN sample counts as not measured."""
        valid_B = torch.isfinite(values).flatten(1).all(dim=1)
        output_BKD, _ = self.lstm(torch.where(valid_B[:, None, None], values, 0.0))
        return one_token(output_BKD[:, -1], valid_B)


class ConvWindow(SensorEncoder):
    """Two strided 1-D convolutions over a window, then a linear layer; exports as plain operators.

    Args:
        shape: (K, F), at least four samples.
        width: D.
        channels: Of the first convolution; the second has twice as many.
    """

    def __init__(self, shape: tuple[int, ...], width: int, channels: int = 32) -> None:
        check_shape("conv1d", shape, "windows [K, F]", axes=2)
        if shape[0] < 4:
            raise ConfigError(f"sensor encoder 'conv1d' needs windows of at least 4 samples, got {shape[0]}.")
        super().__init__(1, width)
        self.layers = nn.Sequential(
            nn.Conv1d(shape[1], channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(channels, 2 * channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.output = nn.Linear(2 * channels * ((shape[0] + 3) // 4), width)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode windows, float [B, K, F], oldest sample first. A window with a NaN sample counts as not measured."""
        valid_B = torch.isfinite(values).flatten(1).all(dim=1)
        measured_BFK = torch.where(valid_B[:, None, None], values, 0.0).transpose(1, 2)
        return one_token(self.output(self.layers(measured_BFK)), valid_B)


class VectorToken(SensorEncoder):
    """A linear layer: one sample of a wrench, of efforts or of a twist → one token.

    Args:
        shape: (F,).
        width: D.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        check_shape("linear", shape, "vectors [F]", axes=1)
        super().__init__(1, width)
        self.output = nn.Linear(shape[0], width)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode vectors, float [B, F]. A vector with a NaN counts as not measured."""
        valid_B = torch.isfinite(values).all(dim=1)
        return one_token(self.output(torch.where(valid_B[:, None], values, 0.0)), valid_B)
