"""EfficientNets up to their last MBConv block: images → feature maps. torchvision's networks, under its names.

"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (Tan and Le, 2019).

Axis legend: N images, C channels, h, w pixels.
"""

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torchvision import models
from torchvision.models.efficientnet import MBConv

from vla_ros.networks.vision.published_cnn import BlockCnn, torchvision_weights

STRIDE = 32


class EfficientNet(BlockCnn):
    """A stem and MBConv blocks, with stochastic depth up to 0.2; no last 1×1 convolution, no classifier.

    Args:
        name: Of one of torchvision's, such as ``efficientnet_b3``.
        image_size: (height, width) in pixels.
    """

    def __init__(self, name: str, image_size: tuple[int, int]) -> None:
        features = models.get_model(name, weights=None).features
        last_channels = features[-1][0].in_channels
        left_out = (f"features.{len(features) - 1}.", "classifier.")
        layers = {"features": features[:-1]}
        weights = torchvision_weights(name)
        super().__init__(image_size, layers, channels=last_channels, stride=STRIDE, left_out=left_out, weights=weights)

    def first_maps(self, images_N3hw: Tensor) -> Tensor:
        """Return the first convolution's maps."""
        maps_NChw: Tensor = cast("nn.Sequential", self.features)[0](images_N3hw)
        return maps_NChw

    def each_block(self) -> Iterator[tuple[nn.Module, int]]:
        """Yield the MBConv blocks in order, each with C of its output."""
        for module in self.modules():
            if isinstance(module, MBConv):
                yield module, module.out_channels


def efficientnet_b0(image_size: tuple[int, int]) -> EfficientNet:
    """Build EfficientNet-B0: 16 blocks, 320 maps of a 32nd of the image's size."""
    return EfficientNet("efficientnet_b0", image_size)


def efficientnet_b3(image_size: tuple[int, int]) -> EfficientNet:
    """Build EfficientNet-B3: 26 blocks, 384 maps of a 32nd of the image's size, 10,103,336 parameters."""
    return EfficientNet("efficientnet_b3", image_size)
