"""A scanning LiDAR's cloud as an image of ranges, rings × azimuths: the cheapest encoder, for one ring or for many.

Points are sorted into cells by their angles, whatever order they come in; the nearest of a cell counts. Convolutions
wrap around where the scan does.

Axis legend: B batch, N points, R rings, A azimuths, C channels, D width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks.sensors.point_sampling import split_points
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens, check_shape


def range_image(
    points_BNF: Tensor, rings: int, azimuths: int, elevation: Sequence[float], max_range: float
) -> tuple[Tensor, Tensor]:
    """Return ranges, m, float [B, R, A], `max_range` where nothing was hit, and bool [B, R, A]: what was hit.

    Args:
        points_BNF: x, y, z in m first, in the frame of the LiDAR (REP-103: x forward, y left, z up); x, y for one ring.
        rings: R, from the lowest elevation to the highest.
        azimuths: A, from −π (behind) through 0 (ahead) to π.
        elevation: Lowest and highest, rad; not used for one ring.
        max_range: m; what is farther counts as nothing hit.
    """
    points_BNF, valid_BN = split_points(points_BNF)
    ahead, left = points_BNF[..., 0], points_BNF[..., 1]
    range_BN = torch.hypot(ahead, left)
    column_BN = ((torch.atan2(left, ahead) + math.pi) / (2 * math.pi) * azimuths).floor().long() % azimuths
    row_BN = torch.zeros_like(column_BN)
    if rings > 1:
        angle_BN = torch.atan2(points_BNF[..., 2], range_BN)
        range_BN = torch.hypot(range_BN, points_BNF[..., 2])
        low, high = elevation
        row_BN = ((angle_BN - low) / (high - low) * (rings - 1)).round().long()
        valid_BN = valid_BN & (row_BN >= 0) & (row_BN < rings)
    valid_BN = valid_BN & (range_BN < max_range) & (range_BN > 0)
    cells = rings * azimuths
    index_BN = torch.where(valid_BN, row_BN * azimuths + column_BN, cells)
    image_BP = range_BN.new_full((range_BN.shape[0], cells + 1), max_range).scatter_reduce(
        1, index_BN, range_BN, "amin"
    )[:, :-1]
    image_BRA = image_BP.reshape(-1, rings, azimuths)
    return image_BRA, image_BRA < max_range


class RangeImage(SensorEncoder):
    """A scan's tokens, one for each sector of azimuths.

    Args:
        shape: (N, F); the first numbers of a point are x, y, z in m (x, y for one ring).
        width: D.
        rings: R.
        azimuths: A.
        elevation: Angles of the lowest and highest ring, rad.
        max_range: m.
        channels: C.
        sectors: Tokens around the robot.

    Raises:
        ConfigError: The feature is no cloud, or the sectors do not divide what is left of the azimuths.
    """

    STRIDE = 4

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        *,
        rings: int = 1,
        azimuths: int = 128,
        elevation: Sequence[float] = (-0.26, 0.26),
        max_range: float = 10.0,
        channels: int = 32,
        sectors: int = 16,
    ) -> None:
        fields = 3 if rings > 1 else 2
        check_shape("range_image", shape, "points [N, F] with x, y (and z for rings) first", 2, fields)
        if azimuths % self.STRIDE or azimuths // self.STRIDE % sectors:
            raise ConfigError(
                f"sensor encoder 'range_image': azimuths={azimuths} must be a multiple of {self.STRIDE} × "
                f"sectors={sectors}."
            )
        super().__init__(sectors, width)
        self.rings, self.azimuths, self.elevation, self.max_range = rings, azimuths, tuple(elevation), max_range
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (min(rings, 3), 5), stride=(1, 2), padding=0)
            for before, after in ((2, channels), (channels, 2 * channels))
        )
        self.output = nn.Linear(2 * channels * (azimuths // self.STRIDE // sectors), width)
        self.position = nn.Parameter(torch.randn(sectors, width) * 0.02)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode points, float [B, N, F], rows of NaN where there is none.

        A sector without a hit is a measurement too: all tokens are valid as soon as the scan holds a point.
        """
        image_BRA, hit_BRA = range_image(values, self.rings, self.azimuths, self.elevation, self.max_range)
        maps = torch.stack([1.0 - image_BRA / self.max_range, hit_BRA.to(image_BRA.dtype)], dim=1)
        rows = 1 if self.rings > 1 else 0
        for layer in self.layers:
            maps = functional.pad(maps, (2, 2, 0, 0), mode="circular")
            maps = functional.relu(layer(functional.pad(maps, (0, 0, rows, rows))))
        batch, channels = maps.shape[:2]
        columns = maps.amax(dim=2).reshape(batch, channels, self.n_tokens, -1)
        sectors_BNF = columns.permute(0, 2, 1, 3).flatten(2)
        tokens_BND = self.output(sectors_BNF) + self.position
        valid_B = hit_BRA.flatten(1).any(dim=1)
        return SensorTokens(
            torch.where(valid_B[:, None, None], tokens_BND, 0.0), valid_B[:, None].expand(-1, self.n_tokens)
        )
