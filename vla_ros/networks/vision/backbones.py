"""Image backbones, [N, 3, h, w] → feature maps [N, C, h', w'], by name. No pooling, no cameras, no keys.

A backbone that yields one vector per image (a CLS token) returns a map of 1×1. The names stand in
`vla_ros.registry.ENCODERS`; another package adds its own by an entry point of ``vla_ros.encoders``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.built import check_built
from vla_ros.registry import ENCODERS


class Backbone(nn.Module, ABC):
    """Maps images to feature maps.

    Attributes:
        map_shape: (C, h', w') of the maps for the image size it was built for.
        published_weights: Name of published weights → address; empty where there are none.
    """

    map_shape: tuple[int, int, int]
    published_weights: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return feature maps, float [N, C, h', w'], of normalised images, float [N, 3, h, w]."""

    def read_published(self, source: str) -> Mapping[str, Tensor] | None:  # noqa: ARG002  # most have no such form
        """Return weights of a source that only the network's own library can read; None for all others."""
        return None

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a file's weights under this module's names; a backbone with a published form knows that one's names.

        What belongs nowhere stays as it is: `load_backbone_weights` refuses it.
        """
        return dict(weights)

    def load_weights(self, source: str | Path) -> None:
        """Take up published weights; arguments and errors as `vla_ros.networks.load_backbone_weights`."""
        from vla_ros.networks.vision.backbone_weights import load_backbone_weights

        load_backbone_weights(self, source)


BackboneFactory = Callable[[tuple[int, int]], Backbone]
"""Builds a backbone for images of (height, width) pixels."""


class ConvStack(Backbone):
    """Four convolutions: kernels 8, 4, 3, 3, strides 4, 2, 1, 1, ReLU after each; 84×84 → 64 maps of 11×11."""

    # (out channels, kernel, stride, padding); the paddings make 84 → 21 → 11 → 11 → 11
    LAYERS = ((32, 8, 4, 2), (64, 4, 2, 2), (64, 3, 1, 1), (64, 3, 1, 1))
    SMALLEST = 4

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        if min(image_size) < self.SMALLEST:
            smallest, got = f"{self.SMALLEST}×{self.SMALLEST}", f"{image_size[0]}×{image_size[1]}"
            raise ConfigError(f"a CNN backbone needs images of at least {smallest} pixels, got {got}.")
        layers: list[nn.Module] = []
        channels, (height, width) = 3, image_size
        for out_channels, kernel, stride, padding in self.LAYERS:
            layers += [nn.Conv2d(channels, out_channels, kernel, stride, padding), nn.ReLU()]
            channels = out_channels
            height = (height + 2 * padding - kernel) // stride + 1
            width = (width + 2 * padding - kernel) // stride + 1
        self.layers = nn.Sequential(*layers)
        self.map_shape = (channels, height, width)

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return maps, float [N, 64, h', w']."""
        maps_NChw: Tensor = self.layers(images_N3hw)
        return maps_NChw


class CoarseConvStack(ConvStack):
    """As `ConvStack`, with a stride of 2 in the third layer: 84×84 → 64 maps of 6×6, few enough to be tokens."""

    LAYERS = ((32, 8, 4, 2), (64, 4, 2, 2), (64, 3, 2, 1), (64, 3, 1, 1))


def register_backbone(name: str, factory: str | BackboneFactory) -> None:
    """Add a backbone under a new name in this process: a factory, or ``"module:attribute"`` of one.

    Raises:
        ConfigError: The name is taken by another factory, which is a `ValueError` too; names both.
    """
    ENCODERS[name] = factory


def backbone_names() -> tuple[str, ...]:
    """Return the names of all backbones."""
    return ENCODERS.names()


def build_backbone(name: str, image_size: tuple[int, int]) -> Backbone:
    """Build a backbone for images of (height, width) pixels.

    Raises:
        ConfigError: No backbone has this name, it cannot be imported, it cannot take this image size, or what it builds
            is no backbone.
    """
    built: Backbone = ENCODERS[name](image_size)
    check_built("backbone", name, built, "map_shape", 3)
    return built
