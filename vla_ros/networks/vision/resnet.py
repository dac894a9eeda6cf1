"""ResNets: images → feature maps, without the classifier. torchvision's networks and blocks, under its names.

"Deep Residual Learning for Image Recognition" (He et al., 2015).
"""

from collections.abc import Callable

from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock

from vla_ros.networks.vision.published_cnn import PublishedCnn, torchvision_weights

Norm = Callable[[int], nn.Module]
CLASSIFIER = ("avgpool", "fc")
STRIDE = 32
GROUP_CHANNELS = 16


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that always uses its loaded statistics and never learns, for small batches on pretrained weights."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":  # noqa: ARG002  # stays as it is in either mode
        """Stay in evaluation mode."""
        super().train(False)
        return self


def published_resnet(name: str, image_size: tuple[int, int], norm: Norm = nn.BatchNorm2d) -> PublishedCnn:
    """Build one of torchvision's ResNets, such as ``resnet18``, with a normalisation of its own if asked for."""
    network = models.get_model(name, weights=None, norm_layer=norm)
    layers = {name: layer for name, layer in network.named_children() if name not in CLASSIFIER}
    return PublishedCnn(
        image_size,
        layers,
        channels=network.fc.in_features,
        stride=STRIDE,
        left_out=("fc.",),
        weights=torchvision_weights(name),
    )


def resnet18(image_size: tuple[int, int]) -> PublishedCnn:
    """Build ResNet-18: 512 maps of a 32nd of the image's size, 11,176,512 parameters."""
    return published_resnet("resnet18", image_size)


def resnet18_frozen_norm(image_size: tuple[int, int]) -> PublishedCnn:
    """Build ResNet-18 whose normalisation does not learn, as the published ACT uses it; made for pretrained weights."""
    return published_resnet("resnet18", image_size, FrozenBatchNorm2d)


def resnet34(image_size: tuple[int, int]) -> PublishedCnn:
    """Build ResNet-34: 512 maps, 21,284,672 parameters."""
    return published_resnet("resnet34", image_size)


def resnet50(image_size: tuple[int, int]) -> PublishedCnn:
    """Build ResNet-50: 2048 maps, 23,508,032 parameters."""
    return published_resnet("resnet50", image_size)


def resnet_small(image_size: tuple[int, int]) -> PublishedCnn:
    """Build a ResNet that a CPU trains: three narrow stages, 64 maps of an eighth of the image's size.

    It keeps maps of 11×11 for 84×84 pixels, so that they can still say where something is, and normalises over groups:
    equal in training and use, however small the batch. No published network is as narrow.
    """
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 16, 7, 2, 3, bias=False),
        "bn1": _group_norm(16),
        "relu": nn.ReLU(),
        "maxpool": nn.MaxPool2d(3, 2, 1),
        "layer1": _stage(16, 16, 1),
        "layer2": _stage(16, 32, 2),
        "layer3": _stage(32, 64, 1),
    }
    backbone = PublishedCnn(image_size, layers, channels=64, stride=8)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone


def _stage(channels: int, width: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or channels != width:
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), _group_norm(width))
    first = BasicBlock(channels, width, stride, shortcut, norm_layer=_group_norm)
    return nn.Sequential(first, BasicBlock(width, width, norm_layer=_group_norm))


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // GROUP_CHANNELS), channels)
