"""PointNet++ with single-scale grouping (Qi et al. 2017, arXiv:1706.02413): a cloud → tokens. For table-top scenes.

Radii are in metres, so points must come as measured, not normalised. Layer normalisation over channels stands where
the paper has batch normalisation: a sample is then encoded as it would be alone, padding changes nothing, and an
average of weights needs no statistics. The count of parameters is the same.

Axis legend: B batch, N points, M centres, K neighbours, C channels, F numbers per point, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.sensors.point_sampling import ball_query, farthest_points, gather_points, split_points
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens, check_shape, one_token

Stage = tuple[int, float, int]
"""Centres, radius in m, neighbours of each."""

STAGES: tuple[Stage, Stage] = ((512, 0.2, 32), (128, 0.4, 64))
CHANNELS: tuple[tuple[int, ...], ...] = ((64, 64, 128), (128, 128, 256), (256, 512, 1024))


class SharedMlp(nn.Sequential):
    """The same Linear, LayerNorm, ReLU layers for every point, [..., C] → [..., channels[-1]]."""

    def __init__(self, input_dim: int, channels: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((input_dim, *channels), channels, strict=False):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        super().__init__(*layers)


class SetAbstraction(nn.Module):
    """Chooses centres, groups their neighbours, and takes the largest feature of each group.

    Args:
        input_dim: C of the points' features.
        stage: Centres, radius in m, neighbours.
        channels: Of the shared layers.
    """

    def __init__(self, input_dim: int, stage: Stage, channels: Sequence[int]) -> None:
        super().__init__()
        self.centres, self.radius, self.neighbours = stage
        self.layers = SharedMlp(3 + input_dim, channels)

    def forward(self, xyz_BN3: Tensor, features_BNC: Tensor, valid_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return centres, m, [B, M, 3]; their features [B, M, C']; and bool [B, M], which centres are points."""
        index_BM, valid_BM = farthest_points(xyz_BN3, valid_BN, self.centres)
        centres_BM3 = gather_points(xyz_BN3, index_BM)
        near_BMK, inside_BMK = ball_query(centres_BM3, xyz_BN3, valid_BN, self.radius, self.neighbours)
        offsets = gather_points(xyz_BN3, near_BMK) - centres_BM3[:, :, None]
        grouped = torch.cat([offsets, gather_points(features_BNC, near_BMK)], dim=-1)
        return centres_BM3, _largest(self.layers(grouped), inside_BMK & valid_BM[..., None]), valid_BM


class PointNet2(SensorEncoder):
    """A cloud's tokens: one of the whole cloud, as published, or one of each centre of the second stage.

    With x, y, z, intensity, a width of 512 and the defaults: 1,332,608 parameters.

    Args:
        shape: (N, F); the first three numbers of a point are x, y, z in m.
        width: D.
        stages: Centres, radius in m and neighbours of both stages.
        channels: Of the shared layers of both stages and of the whole cloud.
        regions: One token for each centre of the second stage in place of one for the cloud.

    Raises:
        ConfigError: The feature has no x, y, z, or there are not two stages and three lists of channels.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        stages: Sequence[Stage] = STAGES,
        channels: Sequence[Sequence[int]] = CHANNELS,
        regions: bool = False,
    ) -> None:
        check_shape("pointnet2", shape, "points [N, F] with x, y, z first", axes=2, least_fields=3)
        if len(stages) != 2 or len(channels) != 3:
            raise ConfigError(
                f"sensor encoder 'pointnet2' needs two stages and three lists of channels, "
                f"got {len(stages)} and {len(channels)}."
            )
        super().__init__(stages[1][0] if regions else 1, width)
        self.first = SetAbstraction(shape[1] - 3, stages[0], channels[0])
        self.second = SetAbstraction(channels[0][-1], stages[1], channels[1])
        self.regions = regions
        if not regions:
            self.whole = SharedMlp(3 + channels[1][-1], channels[2])
        self.output = nn.Linear(3 + channels[1][-1] if regions else channels[2][-1], width)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode points, float [B, N, F], rows of NaN where there is none."""
        points_BNF, valid_BN = split_points(values)
        xyz, features, valid = self.first(points_BNF[..., :3], points_BNF[..., 3:], valid_BN)
        centres_BM3, features_BMC, valid_BM = self.second(xyz, features, valid)
        placed = torch.cat([centres_BM3, features_BMC], dim=-1)
        if self.regions:
            return SensorTokens(torch.where(valid_BM[..., None], self.output(placed), 0.0), valid_BM)
        return one_token(self.output(_largest(self.whole(placed), valid_BM)), valid_BM.any(dim=1))


def _largest(features: Tensor, valid: Tensor) -> Tensor:
    """Return the largest of features [..., K, C] over the valid K, 0 where none is."""
    largest = features.masked_fill(~valid[..., None], -torch.inf).amax(dim=-2)
    return torch.where(valid.any(dim=-1)[..., None], largest, 0.0)
