"""Pillars: a cloud → a bird's-eye-view map → tokens (PointPillars, Lang et al. 2019, arXiv:1812.05784).

Every point joins the pillar that it stands in, without a limit of pillars or of points in one (dynamic voxelisation,
Zhou et al. 2019, arXiv:1910.06528), so the order of the points decides nothing and none is dropped.

Axis legend: B batch, N points, F numbers per point, X, Y cells, C channels, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.sensors.point_sampling import split_points
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens, check_shape

MOST_CELLS = 1_000_000


class PillarMap(nn.Module):
    """A cloud as a map, [B, C, X, Y]; cell (i, j) begins at x_range[0] + i·cell, y_range[0] + j·cell.

    Each point is described by its own numbers, its offset from the mean of its pillar's points (x, y, z) and its offset
    from the centre of the pillar (x, y); Linear, LayerNorm, ReLU, and the largest of a pillar. Empty cells are 0.

    Args:
        fields: F; x, y, z in m first.
        channels: C.
        x_range: Lowest and highest x, m, in the frame of the points; points outside are left out.
        y_range: The same for y.
        cell: Side of a pillar, m.

    Attributes:
        cells: (X, Y).

    Raises:
        ConfigError: A range is empty, or there would be too many cells.
    """

    def __init__(
        self, fields: int, channels: int, x_range: Sequence[float], y_range: Sequence[float], cell: float
    ) -> None:
        super().__init__()
        spans = [high - low for low, high in (x_range, y_range)]
        if min(spans) <= 0 or cell <= 0:
            raise ConfigError(
                f"pillars: x_range={list(x_range)}, y_range={list(y_range)} and cell={cell:g} span no cells; "
                "each range needs its lower end first and the cell a length above 0."
            )
        self.cells = (max(round(spans[0] / cell), 1), max(round(spans[1] / cell), 1))
        if self.cells[0] * self.cells[1] > MOST_CELLS:
            raise ConfigError(f"pillars: {self.cells[0]}×{self.cells[1]} cells; at most {MOST_CELLS:,} are taken.")
        self.origin = (float(x_range[0]), float(y_range[0]))
        self.cell = float(cell)
        self.channels = channels
        self.layers = nn.Sequential(nn.Linear(fields + 5, channels), nn.LayerNorm(channels), nn.ReLU())

    def forward(self, points_BNF: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map, float [B, C, X, Y], and which cells hold a point, bool [B, X, Y]."""
        points_BNF, valid_BN = split_points(points_BNF)
        batch = len(points_BNF)
        places_BN2 = (points_BNF[..., :2] - points_BNF.new_tensor(self.origin)) / self.cell
        columns_BN2 = places_BN2.floor()
        limits = points_BNF.new_tensor(self.cells)
        valid_BN = valid_BN & ((columns_BN2 >= 0) & (columns_BN2 < limits)).all(-1)
        # what is in no cell goes to one more, which is cut off at the end
        outside = self.cells[0] * self.cells[1]
        index_BN = torch.where(valid_BN, (columns_BN2[..., 0] * self.cells[1] + columns_BN2[..., 1]).long(), outside)

        counts_BP = points_BNF.new_zeros(batch, outside + 1).scatter_add(1, index_BN, valid_BN.to(points_BNF.dtype))
        sums_BP3 = points_BNF.new_zeros(batch, outside + 1, 3).scatter_add(
            1, index_BN[..., None].expand(-1, -1, 3), points_BNF[..., :3]
        )
        means_BP3 = sums_BP3 / counts_BP.clamp(min=1)[..., None]
        from_mean_BN3 = points_BNF[..., :3] - means_BP3.gather(1, index_BN[..., None].expand(-1, -1, 3))
        from_centre_BN2 = (places_BN2 - columns_BN2 - 0.5) * self.cell
        features_BNC = self.layers(torch.cat([points_BNF, from_mean_BN3, from_centre_BN2], dim=-1))
        # after a ReLU nothing is below 0, the value of an empty cell
        map_BPC = features_BNC.new_zeros(batch, outside + 1, self.channels).scatter_reduce(
            1, index_BN[..., None].expand(-1, -1, self.channels), features_BNC, "amax"
        )
        map_BCXY = map_BPC[:, :-1].transpose(1, 2).reshape(batch, self.channels, *self.cells)
        return map_BCXY, (counts_BP[:, :-1] > 0).reshape(batch, *self.cells)


class Pillars(SensorEncoder):
    """A cloud's bird's-eye view as a grid of tokens, for robots that move.

    Args:
        shape: (N, F); the first three numbers of a point are x, y, z in m.
        width: D.
        x_range: Lowest and highest x, m.
        y_range: Lowest and highest y, m.
        cell: Side of a pillar, m.
        channels: C of the map.
        grid: Tokens along x and along y.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        *,
        x_range: Sequence[float] = (-4.0, 4.0),
        y_range: Sequence[float] = (-4.0, 4.0),
        cell: float = 0.25,
        channels: int = 32,
        grid: Sequence[int] = (8, 8),
    ) -> None:
        check_shape("pillars", shape, "points [N, F] with x, y, z first", axes=2, least_fields=3)
        super().__init__(grid[0] * grid[1], width)
        self.map = PillarMap(shape[1], channels, x_range, y_range, cell)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((grid[0], grid[1])),
        )
        self.output = nn.Linear(2 * channels, width)
        self.position = nn.Parameter(torch.randn(self.n_tokens, width) * 0.02)

    def forward(self, values: Tensor) -> SensorTokens:
        """Encode points, float [B, N, F], rows of NaN where there is none.

        An empty cell is a measurement too: all tokens are valid as soon as the cloud holds a point.
        """
        map_BCXY, _ = self.map(values)
        tokens_BND = self.output(self.convolutions(map_BCXY).flatten(2).transpose(1, 2)) + self.position
        valid_B = torch.isfinite(values).all(dim=-1).any(dim=1)
        return SensorTokens(
            torch.where(valid_B[:, None, None], tokens_BND, 0.0), valid_B[:, None].expand(-1, self.n_tokens)
        )
