"""Feature maps [N, C, h, w] → one vector per image. No backbone, no cameras.

Averaging forgets where a feature is; spatial softmax keeps little else. A policy that must reach a thing of a few
pixels needs the second.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.built import check_built
from vla_ros.registry import POOLINGS


class AveragePool(nn.Module):
    """Mean of each map.

    Attributes:
        feature_dim: C.
    """

    def __init__(self, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.feature_dim = map_shape[0]

    def forward(self, maps_NChw: Tensor) -> Tensor:
        """Return [N, C]."""
        return maps_NChw.mean(dim=(2, 3))


class SpatialSoftmax(nn.Module):
    """Expected position of each map under a softmax over its pixels: C keypoints in [−1, 1]².

    Attributes:
        feature_dim: 2 C; all x (right) first, then all y (down).
        log_temperature: Learned; how sharply a map's largest values win.

    Raises:
        ConfigError: The maps are of one pixel, whose position says nothing.
    """

    x: Tensor
    y: Tensor

    def __init__(self, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = map_shape
        if height * width == 1:
            raise ConfigError(
                "pooling 'spatial_softmax' needs maps, and this backbone gives one vector; use 'average'."
            )
        self.feature_dim = 2 * channels
        self.log_temperature = nn.Parameter(torch.zeros(()))
        y_hw, x_hw = torch.meshgrid(_centres(height), _centres(width), indexing="ij")
        # not in the checkpoint: they follow from the shape
        self.register_buffer("x", x_hw.flatten(), persistent=False)
        self.register_buffer("y", y_hw.flatten(), persistent=False)

    def forward(self, maps_NChw: Tensor) -> Tensor:
        """Return [N, 2 C]."""
        weights_NCP = torch.softmax(maps_NChw.flatten(2) / self.log_temperature.exp(), dim=-1)
        return torch.cat([weights_NCP @ self.x, weights_NCP @ self.y], dim=-1)


def build_pooling(name: str, map_shape: tuple[int, int, int]) -> Any:
    """Build a pooling for maps of (C, h, w).

    Raises:
        ConfigError: No pooling has this name, or it cannot pool such maps.
    """
    built = POOLINGS[name](map_shape)
    check_built("pooling", name, built, "feature_dim", 1)
    return built


def _centres(count: int) -> Tensor:
    return torch.linspace(-1.0, 1.0, count) if count > 1 else torch.zeros(1)
