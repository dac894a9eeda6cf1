"""Surround cameras → tokens: laid on a bird's-eye view with their calibration, or each camera's map as it is.

Axis legend: B batch, I cameras, C channels, h, w pixels of a map, X, Y cells, N tokens, D width.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.data_types.rotations import matrix_of_quaternion
from vla_ros.networks import Backbone, build_backbone, sine_positions_2d
from vla_ros.networks.fusion import CameraLift, CameraModel
from vla_ros.networks.sensors import SensorTokens
from vla_ros.policies.multi_sensor.config import BevOptions, MultiSensorConfig


class CameraMaps(nn.Module):
    """The cameras' backbones: one for all, or one each.

    Attributes:
        shapes: (C, h, w) of each camera's map.
    """

    def __init__(self, config: MultiSensorConfig) -> None:
        super().__init__()
        sizes = [(config.inputs[key].shape[0], config.inputs[key].shape[1]) for key in config.image_keys]
        kept = sizes[:1] if config.share_encoder else sizes
        self.backbones = nn.ModuleList(build_backbone(config.backbone, size) for size in kept)
        self._of = [0 if config.share_encoder else index for index in range(len(sizes))]
        shapes = [cast("Backbone", backbone).map_shape for backbone in self.backbones]
        self.shapes = [shapes[index] for index in self._of]

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return feature maps, each float [B, C, h, w], of images, each float [B, 3, h, w]."""
        if len(self.backbones) == 1:  # cameras of one size: one pass for all
            return list(self.backbones[0](torch.cat(list(images))).chunk(len(images)))
        return [self.backbones[self._of[index]](image) for index, image in enumerate(images)]


class MapTokens(nn.Module):
    """Every place of every camera's map is a token, with its place and its camera's learned vector."""

    def __init__(self, config: MultiSensorConfig) -> None:
        super().__init__()
        self.maps = CameraMaps(config)
        self.outputs = nn.ModuleList(nn.Linear(shape[0], config.width) for shape in self.maps.shapes)
        self.camera = nn.Parameter(torch.randn(len(self.maps.shapes), config.width) * 0.02)

    def forward(self, images: Sequence[Tensor]) -> SensorTokens:
        """Return tokens of all cameras, one camera after the other."""
        tokens = []
        for index, maps_BChw in enumerate(self.maps(images)):
            said_BND = self.outputs[index](maps_BChw.flatten(2).transpose(1, 2))
            height, width = maps_BChw.shape[2:]
            positions_ND = sine_positions_2d(height, width, said_BND.shape[-1]).to(said_BND)
            tokens.append(said_BND + positions_ND + self.camera[index])
        joined_BND = torch.cat(tokens, dim=1)
        return SensorTokens(joined_BND, torch.ones(joined_BND.shape[:2], dtype=torch.bool, device=joined_BND.device))


class BevTokens(nn.Module):
    """Cameras on a bird's-eye view; a token none of whose cells is looked at by a camera is not valid."""

    def __init__(self, config: MultiSensorConfig, bev: BevOptions) -> None:
        super().__init__()
        self.maps = CameraMaps(config)
        channels = self.maps.shapes[0][0]
        cameras = [camera_model(config, key) for key in config.image_keys]
        self.lift = CameraLift(cameras, bev.x_range, bev.y_range, bev.cells, bev.heights)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels + 1, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveMaxPool2d(bev.tokens)
        self.output = nn.Linear(channels, config.width)
        self.position = nn.Parameter(torch.randn(bev.tokens[0] * bev.tokens[1], config.width) * 0.02)

    def forward(self, images: Sequence[Tensor]) -> SensorTokens:
        """Return the grid's tokens, x by x."""
        map_BCXY, seen_BXY = self.lift(self.maps(images))
        seen_B1XY = seen_BXY[:, None].to(map_BCXY.dtype)
        tokens_BND = self.output(
            self.pool(self.convolutions(torch.cat([map_BCXY, seen_B1XY], dim=1))).flatten(2).transpose(1, 2)
        )
        valid_BN = self.pool(seen_B1XY).flatten(1) > 0
        return SensorTokens(torch.where(valid_BN[..., None], tokens_BND + self.position, 0.0), valid_BN)


def camera_model(config: MultiSensorConfig, key: str) -> CameraModel:
    """Return a camera's model from its calibration."""
    calibration, (height, width, _) = config.calibration[key], config.inputs[key].shape
    rotation = tuple(tuple(map(float, row)) for row in matrix_of_quaternion(calibration.rotation))
    return CameraModel(config.intrinsics(key), (height, width), rotation, calibration.translation)  # type: ignore[arg-type]
