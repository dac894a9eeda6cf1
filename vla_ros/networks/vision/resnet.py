"""ResNets of basic blocks: images → feature maps, without the classifier. Weights have torchvision's names.

"Deep Residual Learning for Image Recognition" (He et al., 2015). Written here, and tested equal to torchvision's,
because a robot should need no torchvision to run one, and a CPU needs a narrower one than torchvision offers.

Axis legend: N images, C channels, h, w pixels.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from vla_ros.networks.vision.backbones import Backbone

Norm = Callable[[int], nn.Module]
CLASSIFIER = ("fc.weight", "fc.bias")
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


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = norm(out_channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = norm(out_channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, out_channels, 1, stride, bias=False), norm(out_channels))
            if stride != 1 or channels != out_channels
            else None
        )

    def forward(self, maps_NChw: Tensor) -> Tensor:
        """Return maps, float [N, C', h', w']."""
        shortcut = maps_NChw if self.downsample is None else self.downsample(maps_NChw)
        hidden = self.relu(self.bn1(self.conv1(maps_NChw)))
        updated_NChw: Tensor = self.relu(self.bn2(self.conv2(hidden)) + shortcut)
        return updated_NChw


class ResNet(Backbone):
    """A 7×7 convolution, a max pool, and stages of two basic blocks.

    Args:
        image_size: (height, width) in pixels.
        widths: Channels of each stage.
        strides: Of each stage.
        norm: Makes the normalisation of so many channels.
    """

    def __init__(self, image_size: tuple[int, int], widths: Sequence[int], strides: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = norm(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stages: list[str] = []
        channels = widths[0]
        for number, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
            blocks = [BasicBlock(channels, width, stride, norm), BasicBlock(width, width, 1, norm)]
            self.stages.append(f"layer{number}")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
            channels = width
        height, width_px = (_shrunk(size, (2, 2, *strides)) for size in image_size)
        self.map_shape = (channels, height, width_px)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return maps, float [N, C, h', w']."""
        maps_NChw: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images_N3hw))))
        for stage in self.stages:
            maps_NChw = self.get_submodule(stage)(maps_NChw)
        return maps_NChw

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return torchvision's weights without the classifier."""
        return {name: value for name, value in weights.items() if name not in CLASSIFIER}


def resnet18(image_size: tuple[int, int]) -> ResNet:
    """Build ResNet-18: 512 maps of a 32nd of the image's size, 11,176,512 parameters."""
    return ResNet(image_size, (64, 128, 256, 512), (1, 2, 2, 2), nn.BatchNorm2d)


def resnet18_frozen_norm(image_size: tuple[int, int]) -> ResNet:
    """Build ResNet-18 whose normalisation does not learn, as the published ACT uses it; made for pretrained weights."""
    return ResNet(image_size, (64, 128, 256, 512), (1, 2, 2, 2), FrozenBatchNorm2d)


def resnet_small(image_size: tuple[int, int]) -> ResNet:
    """Build a ResNet that a CPU trains: three narrow stages, 64 maps of an eighth of the image's size.

    It keeps maps of 11×11 for 84×84 pixels, so that they can still say where something is, and normalises over groups:
    equal in training and use, however small the batch.
    """
    return ResNet(
        image_size, (16, 32, 64), (1, 2, 1), lambda channels: nn.GroupNorm(max(1, channels // GROUP_CHANNELS), channels)
    )


def _shrunk(size: int, strides: Sequence[int]) -> int:
    for stride in strides:
        size = -(-size // stride)
    return size
