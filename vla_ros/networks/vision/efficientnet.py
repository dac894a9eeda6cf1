"""EfficientNet-B3 up to its last MBConv block: images → 384 feature maps. Weights have torchvision's names.

"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (Tan and Le, 2019). Written here, and tested
equal to torchvision's, because a robot should need no torchvision to run one, and every block must be reachable.

Axis legend: N images, C channels, h, w pixels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_ros.networks.vision.backbones import Backbone

SQUEEZE = 4
STOCHASTIC_DEPTH = 0.2
HEAD = ("classifier.", "features.8.")


@dataclass(frozen=True)
class Stage:
    """A run of blocks of one width; the first of them has the stride."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    depth: int


STEM_CHANNELS = 40
B3_STAGES = (
    Stage(1, 3, 1, 24, 2),
    Stage(6, 3, 2, 32, 3),
    Stage(6, 5, 2, 48, 3),
    Stage(6, 3, 2, 96, 5),
    Stage(6, 5, 1, 136, 5),
    Stage(6, 5, 2, 232, 6),
    Stage(6, 3, 1, 384, 2),
)
STRIDE = 32


class SqueezeExcitation(nn.Module):
    """Scales each map by a number between 0 and 1 that follows from all maps' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.SiLU()

    def forward(self, maps_NChw: Tensor) -> Tensor:
        """Return maps, float [N, C, h, w]."""
        means_NC11 = maps_NChw.mean(dim=(2, 3), keepdim=True)
        scaled_NChw: Tensor = self.fc2(self.activation(self.fc1(means_NC11))).sigmoid() * maps_NChw
        return scaled_NChw


class MBConv(nn.Module):
    """Widen, convolve each map by itself, squeeze-and-excite, narrow; beside it a shortcut where the shape stays.

    Attributes:
        channels: C of what comes out.
        drop_share: Share of images for which the block adds nothing, in training (stochastic depth).
    """

    def __init__(self, channels_in: int, stage: Stage, stride: int, drop_share: float) -> None:
        super().__init__()
        wide = channels_in * stage.expansion
        layers: list[nn.Module] = [_conv(channels_in, wide, 1)] if stage.expansion > 1 else []
        layers += [
            _conv(wide, wide, stage.kernel, stride, groups=wide),
            SqueezeExcitation(wide, max(1, channels_in // SQUEEZE)),
            _conv(wide, stage.channels, 1, activation=False),
        ]
        self.block = nn.Sequential(*layers)
        self.channels = stage.channels
        self.drop_share = drop_share
        self.has_shortcut = stride == 1 and channels_in == stage.channels

    def forward(self, maps_NChw: Tensor) -> Tensor:
        """Return maps, float [N, C', h', w']."""
        updated: Tensor = self.block(maps_NChw)
        if not self.has_shortcut:
            return updated
        if self.training and self.drop_share:
            kept_N111 = torch.rand(len(updated), 1, 1, 1, device=updated.device) >= self.drop_share
            updated = updated * kept_N111 / (1.0 - self.drop_share)
        return updated + maps_NChw


class EfficientNetB3(Backbone):
    """A stem and 26 MBConv blocks in seven stages; no last 1×1 convolution, no classifier.

    Args:
        image_size: (height, width) in pixels.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        n_blocks = sum(stage.depth for stage in B3_STAGES)
        stages: list[nn.Module] = [_conv(3, STEM_CHANNELS, 3, 2)]
        channels, number = STEM_CHANNELS, 0
        for stage in B3_STAGES:
            blocks = []
            for index in range(stage.depth):
                stride = stage.stride if index == 0 else 1
                blocks.append(MBConv(channels, stage, stride, STOCHASTIC_DEPTH * number / n_blocks))
                channels, number = stage.channels, number + 1
            stages.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*stages)
        self.map_shape = (channels, -(-image_size[0] // STRIDE), -(-image_size[1] // STRIDE))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def stem(self) -> nn.Module:
        """The first convolution."""
        return self.features[0]

    def blocks(self) -> Iterator[MBConv]:
        """Yield the 26 blocks in order."""
        for module in self.features.modules():
            if isinstance(module, MBConv):
                yield module

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return maps, float [N, 384, h', w']."""
        maps_NChw: Tensor = self.features(images_N3hw)
        return maps_NChw

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return torchvision's weights without what comes after the last block."""
        return {name: value for name, value in weights.items() if not name.startswith(HEAD)}


def _conv(
    channels_in: int, channels: int, kernel: int, stride: int = 1, *, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), *([nn.SiLU()] if activation else []))
