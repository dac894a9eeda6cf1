"""Image backbones, [N, 3, h, w] → feature maps [N, C, h', w'], and their registry. No pooling, no cameras, no keys.

A backbone that yields one vector per image (a CLS token) returns a map of 1×1. Registering another one is a line in
`_BACKBONES`, or a call of `register_backbone` from another package.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module

from torch import Tensor, nn

from vla_ros.data_types import ConfigError, nearest_name


class Backbone(nn.Module, ABC):
    """Maps images to feature maps.

    Attributes:
        map_shape: (C, h', w') of the maps for the image size it was built for.
    """

    map_shape: tuple[int, int, int]

    @abstractmethod
    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return feature maps, float [N, C, h', w'], of normalised images, float [N, 3, h, w]."""

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a file's weights under this module's names; a backbone with a published form knows that one's names.

        What belongs nowhere stays as it is: `load_backbone_weights` refuses it.
        """
        return dict(weights)


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


_BACKBONES: dict[str, str | BackboneFactory] = {
    "cnn": "vla_ros.networks.backbones:ConvStack",
    "cnn_coarse": "vla_ros.networks.backbones:CoarseConvStack",
    "resnet18": "vla_ros.networks.resnet:resnet18",
    "resnet18_frozen_norm": "vla_ros.networks.resnet:resnet18_frozen_norm",
    "resnet_small": "vla_ros.networks.resnet:resnet_small",
    "vit_b16": "vla_ros.networks.class_token_vit:vit_b16",
    "vit_small": "vla_ros.networks.class_token_vit:vit_small",
}


def register_backbone(name: str, factory: str | BackboneFactory) -> None:
    """Add a backbone under a new name: a factory, or ``"module:attribute"`` of one, imported on first use.

    Raises:
        ValueError: The name is taken by another factory.
    """
    if _BACKBONES.get(name, factory) != factory:
        raise ValueError(f"A backbone named '{name}' exists already.")
    _BACKBONES[name] = factory


def backbone_names() -> tuple[str, ...]:
    """Return the names of all backbones."""
    return tuple(sorted(_BACKBONES))


def build_backbone(name: str, image_size: tuple[int, int]) -> Backbone:
    """Build a backbone for images of (height, width) pixels.

    Raises:
        ConfigError: No backbone has this name, or it cannot take this image size.
    """
    if name not in _BACKBONES:
        known = backbone_names()
        raise ConfigError(f"backbone '{name}' is not one of {', '.join(known)}.{nearest_name(name, known)}")
    factory = _BACKBONES[name]
    if isinstance(factory, str):
        module, attribute = factory.split(":")
        factory = getattr(import_module(module), attribute)
    built: Backbone = factory(image_size)
    return built
