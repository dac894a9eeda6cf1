"""The interface of sensor encoders: one sensor's values → tokens and which of them are valid. No keys, no cameras.

A value that was not measured is NaN in every encoder's input, never zero: (0, 0, 0) is a place, and 0 m/s² a fall.

Axis legend: B batch, N tokens, D width.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.registry import SENSORS, check_built


class SensorTokens(NamedTuple):
    """What a sensor says, as tokens.

    Attributes:
        tokens_BND: float [B, N, D], finite; zero where not valid.
        valid_BN: bool [B, N], False for a token that nothing was measured for. A row may hold no valid token.
    """

    tokens_BND: Tensor
    valid_BN: Tensor


class SensorEncoder(nn.Module, ABC):
    """Encodes one sensor's values.

    Attributes:
        n_tokens: N.
        width: D.
    """

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.width = width

    @abstractmethod
    def forward(self, values: Tensor) -> SensorTokens:
        """Encode values, float [B, ...] of the shape the encoder was built for, NaN where nothing was measured.

        Each sample of a batch is encoded as it would be alone.
        """


def build_sensor_encoder(name: str, shape: tuple[int, ...], width: int, **options: Any) -> SensorEncoder:
    """Build a sensor encoder by its name in `vla_ros.registry.SENSORS`.

    Args:
        name: Its name.
        shape: Of one sample's values, without batch.
        width: D of its tokens.
        options: The encoder's own.

    Raises:
        ConfigError: No encoder has this name, it has no such option, it cannot encode this shape, or what it builds is
            no module with `n_tokens` and `width`.
    """
    try:
        built: SensorEncoder = SENSORS[name](shape, width, **options)
    except TypeError as reason:
        raise ConfigError(f"sensor encoder '{name}' with options {', '.join(options) or '(none)'}: {reason}.") from None
    check_built("sensor encoder", name, built, "n_tokens", 1)
    check_built("sensor encoder", name, built, "width", 1)
    return built


def one_token(features_BF: Tensor, valid_B: Tensor) -> SensorTokens:
    """Return one token a sample of features [B, D], zero where nothing was measured (bool [B])."""
    return SensorTokens(torch.where(valid_B[:, None], features_BF, 0.0)[:, None], valid_B[:, None])


def check_shape(name: str, shape: tuple[int, ...], wanted: str, axes: int, least_fields: int = 1) -> None:
    """Refuse a feature that an encoder cannot read.

    Raises:
        ConfigError: Says what it reads and what it was given.
    """
    if len(shape) != axes or min(shape) < 1 or shape[-1] < least_fields:
        raise ConfigError(f"sensor encoder '{name}' reads {wanted}; this feature has shape {list(shape)}.")
