"""Bird's-eye view: what surround cameras see, laid on the grid on which the LiDAR's pillars stand.

Each cell takes what the cameras see at a few heights above its centre: the point is projected into every camera, the
feature there is read bilinearly, and the mean over the cameras that see it is kept (as Simple-BEV, Harley et al. 2023,
arXiv:2206.07959). No depth is learnt or guessed.

Axis legend: B batch, I cameras, C channels, h, w feature map, X, Y cells, Z heights, P = X·Y·Z.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError

NEAREST = 0.05  # m in front of the camera; what is nearer, or behind, is not seen


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera (CameraInfo after rectification) and where it is mounted.

    Attributes:
        intrinsics: (fx, fy, cx, cy) in pixels of `size`; pixel centres at whole numbers, as ROS has it.
        size: (height, width) in pixels.
        rotation: 3×3, rows first: turns the camera's optical axes (x right, y down, z ahead, REP-103) into the robot's.
        translation: Of the camera in the robot's frame, m.
    """

    intrinsics: tuple[float, float, float, float]
    size: tuple[int, int]
    rotation: tuple[tuple[float, float, float], ...]
    translation: tuple[float, float, float]

    def project(self, points_P3: Tensor) -> tuple[Tensor, Tensor]:
        """Project points of the robot's frame, m, float [P, 3].

        Returns:
            (u, v) in pixels, float [P, 2], and bool [P]: in front of the camera and inside the image.
        """
        rotation = points_P3.new_tensor(self.rotation)
        in_camera_P3 = (points_P3 - points_P3.new_tensor(self.translation)) @ rotation
        depth_P = in_camera_P3[:, 2]
        ahead_P = depth_P > NEAREST
        depth_P = torch.where(ahead_P, depth_P, 1.0)
        fx, fy, cx, cy = self.intrinsics
        pixel_P2 = torch.stack([in_camera_P3[:, 0] / depth_P * fx + cx, in_camera_P3[:, 1] / depth_P * fy + cy], dim=1)
        height, width = self.size
        limits = points_P3.new_tensor([width, height])
        return pixel_P2, ahead_P & ((pixel_P2 >= -0.5) & (pixel_P2 < limits - 0.5)).all(dim=1)


class CameraLift(nn.Module):
    """Feature maps of calibrated cameras → a bird's-eye-view map, [B, C, X, Y].

    The calibration is fixed when built, and so is which pixel each cell reads.

    Args:
        cameras: Models, in the order of the maps.
        x_range: Lowest and highest x of the grid, m, in the robot's frame (x ahead, y left).
        y_range: The same for y.
        cells: (X, Y).
        heights: z above the robot's frame at which cells look, m.

    Raises:
        ConfigError: There is no camera or no height.
    """

    places: Tensor
    seen: Tensor

    def __init__(
        self,
        cameras: Sequence[CameraModel],
        x_range: Sequence[float],
        y_range: Sequence[float],
        cells: tuple[int, int],
        heights: Sequence[float] = (0.0, 0.3, 0.6),
    ) -> None:
        super().__init__()
        if not cameras or not heights:
            raise ConfigError(f"a bird's-eye view needs cameras and heights, got {len(cameras)} and {len(heights)}.")
        self.cells, self.n_heights = cells, len(heights)
        points_P3 = cell_points(x_range, y_range, cells, heights)
        places, seen = [], []
        for camera in cameras:
            pixel_P2, seen_P = camera.project(points_P3)
            height, width = camera.size
            # grid_sample's coordinates without aligned corners: −1 and 1 are the image's edges, not its outer pixels
            places.append((pixel_P2 + 0.5) / pixel_P2.new_tensor([width, height]) * 2 - 1)
            seen.append(seen_P)
        self.register_buffer("places", torch.stack(places), persistent=False)
        self.register_buffer("seen", torch.stack(seen), persistent=False)

    def forward(self, maps: Sequence[Tensor], present_BI: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Lay feature maps on the grid.

        Args:
            maps: Of each camera, float [B, C, h, w]; sizes may differ between cameras.
            present_BI: bool [B, I]; the other cameras are left out of the means.

        Returns:
            The map, float [B, C, X, Y], 0 where no camera looks, and bool [B, X, Y]: where one does.
        """
        batch, channels = maps[0].shape[:2]
        total_BCP, count_B1P = maps[0].new_zeros(()), maps[0].new_zeros(())
        for index, features in enumerate(maps):
            weight_B1P = self.seen[index].to(features.dtype).expand(batch, 1, -1)
            if present_BI is not None:
                weight_B1P = weight_B1P * present_BI[:, index, None, None]
            grid = self.places[index].to(features.dtype).expand(batch, 1, -1, 2)
            read_BCP = functional.grid_sample(features, grid, padding_mode="border", align_corners=False)[:, :, 0]
            total_BCP, count_B1P = total_BCP + read_BCP * weight_B1P, count_B1P + weight_B1P
        count_BXY = count_B1P.reshape(batch, *self.cells, self.n_heights).sum(-1)
        total_BCXY = total_BCP.reshape(batch, channels, *self.cells, self.n_heights).sum(-1)
        return total_BCXY / count_BXY.clamp(min=1)[:, None], count_BXY > 0


def cell_points(
    x_range: Sequence[float], y_range: Sequence[float], cells: tuple[int, int], heights: Sequence[float]
) -> Tensor:
    """Return the centres of a grid's cells at each height, m, float [X·Y·Z, 3], heights running fastest."""
    sides = [(high - low) / count for (low, high), count in zip((x_range, y_range), cells, strict=True)]
    x = x_range[0] + sides[0] * (torch.arange(cells[0]) + 0.5)
    y = y_range[0] + sides[1] * (torch.arange(cells[1]) + 0.5)
    return torch.cartesian_prod(x, y, torch.tensor(list(heights), dtype=x.dtype))
