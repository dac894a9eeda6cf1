"""Published convolutional networks as backbones: the layers up to the last maps, under the names of their weights.

Axis legend: N images, C channels, h, w pixels.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from vla_ros.networks.vision.backbones import Backbone


class PublishedCnn(Backbone):
    """Layers of a published network, applied one after the other.

    Args:
        image_size: (height, width) in pixels.
        layers: Name in the network → layer, in order.
        channels: C of the last maps.
        stride: Pixels of the image for each of the maps'; every layer with a stride rounds up.
        left_out: How the names of the weights begin that come after these layers.
        weights: Name of published weights → address.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        layers: Mapping[str, nn.Module],
        *,
        channels: int,
        stride: int,
        left_out: tuple[str, ...] = (),
        weights: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.map_shape = (channels, -(-image_size[0] // stride), -(-image_size[1] // stride))
        self.published_weights = dict(weights or {})
        self._left_out = left_out

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return maps, float [N, C, h', w']."""
        maps_NChw = images_N3hw
        for layer in self.children():
            maps_NChw = layer(maps_NChw)
        return maps_NChw

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's weights without what comes after the last layer."""
        return {name: value for name, value in weights.items() if not name.startswith(self._left_out)}


class BlockCnn(PublishedCnn):
    """A published network of a stem and blocks, between which a condition can be let in."""

    @abstractmethod
    def first_maps(self, images_N3hw: Tensor) -> Tensor:
        """Return what the first block gets, float [N, C, h', w']."""

    @abstractmethod
    def each_block(self) -> Iterator[tuple[nn.Module, int]]:
        """Yield the blocks in order, each with C of its output."""


def torchvision_weights(model: str) -> dict[str, str]:
    """Return name → address of the ImageNet weights that torchvision knows for one of its models."""
    from torchvision.models import get_model_weights  # a second to import

    return {weights.name: weights.url for weights in get_model_weights(model)}
