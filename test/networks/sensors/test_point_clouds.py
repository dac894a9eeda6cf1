"""Sampling, grouping, pillars and range images equal what a loop over the definition gives."""

import math

import pytest
import torch
from torch import Tensor

from vla_ros.networks.sensors import PillarMap
from vla_ros.networks.sensors.point_sampling import ball_query, farthest_points, split_points
from vla_ros.networks.sensors.range_image import range_image


def cloud(points: int, fields: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(points, fields, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def farthest_by_search(points: list[list[float]], count: int) -> list[int]:
    """The definition: start farthest from the mean, then always the point whose nearest chosen one is farthest."""
    mean = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    chosen = [max(range(len(points)), key=lambda i: math.dist(points[i], mean))]
    while len(chosen) < count:
        chosen.append(max(range(len(points)), key=lambda i: min(math.dist(points[i], points[c]) for c in chosen)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_farthest_points_are_those_of_a_search(seed: int) -> None:
    points = cloud(30, seed=seed)
    rows = torch.cat([points[:10], torch.full((4, 3), torch.nan, dtype=torch.float64), points[10:]])
    clean, valid = split_points(rows[None])
    index, chosen = farthest_points(clean, valid, 12)
    expected = [i if i < 10 else i + 4 for i in farthest_by_search(points.tolist(), 12)]
    assert index[0].tolist() == expected
    assert chosen.all()


def test_more_centres_than_points_are_marked() -> None:
    rows = torch.full((1, 6, 3), torch.nan, dtype=torch.float64)
    rows[0, 2], rows[0, 4] = cloud(2)
    clean, valid = split_points(rows)
    index, chosen = farthest_points(clean, valid, 5)
    assert chosen[0].tolist() == [True, True, False, False, False]
    assert set(index[0, :2].tolist()) == {2, 4}


@pytest.mark.parametrize("radius", [0.3, 0.9, 2.0])
def test_neighbours_are_those_of_a_search(radius: float) -> None:
    points, centres = cloud(40, seed=3), cloud(6, seed=4)
    valid = torch.rand(40, generator=torch.Generator().manual_seed(5)) < 0.8
    index, inside = ball_query(centres[None], points[None], valid[None], radius, 7)
    for row, centre in enumerate(centres.tolist()):
        near = [i for i in range(40) if valid[i] and math.dist(points[i].tolist(), centre) <= radius]
        near.sort(key=lambda i: math.dist(points[i].tolist(), centre))
        assert index[0, row][inside[0, row]].tolist() == near[:7]


def test_pillars_are_those_of_a_loop() -> None:
    torch.manual_seed(0)
    pillars = PillarMap(4, 6, (-2.0, 2.0), (-1.0, 1.0), 0.5).double()
    points = cloud(200, 4)
    points[17] = torch.nan
    map_CXY, holds_XY = (part[0] for part in pillars(points[None]))
    assert pillars.cells == (8, 4)
    assert map_CXY.shape == (6, 8, 4)
    for i in range(8):
        for j in range(4):
            x, y = -2.0 + 0.5 * i, -1.0 + 0.5 * j
            inside = [p for p in points if x <= p[0] < x + 0.5 and y <= p[1] < y + 0.5]
            assert bool(holds_XY[i, j]) == bool(inside)
            if not inside:
                assert not map_CXY[:, i, j].any()
                continue
            stack = torch.stack(inside)
            centre = torch.tensor([x + 0.25, y + 0.25], dtype=torch.float64)
            described = torch.cat([stack, stack[:, :3] - stack[:, :3].mean(0), stack[:, :2] - centre], dim=1)
            torch.testing.assert_close(map_CXY[:, i, j], pillars.layers(described).amax(0))


class TestRangeImage:
    def test_directions_are_those_of_rep_103(self) -> None:
        # ahead, left, behind right of −π, down-left on the lowest ring
        points = torch.tensor([[[2.0, 0.01, 0.0], [0.01, 3.0, 0.0], [-1.0, -0.01, 0.0], [1.0, 1.0, -math.sqrt(2)]]])
        image, hit = range_image(points, rings=3, azimuths=8, elevation=(-math.pi / 4, math.pi / 4), max_range=10.0)
        found = {(r, a): round(float(image[0, r, a]), 2) for r, a in hit[0].nonzero().tolist()}
        assert found == {(1, 4): 2.0, (1, 5): 3.0, (1, 0): 1.0, (0, 5): 2.0}

    def test_the_nearest_point_of_a_cell_counts_and_a_far_one_is_none(self) -> None:
        points = torch.tensor([[[4.0, 0.1], [2.0, 0.1], [-20.0, 0.1], [torch.nan, torch.nan]]])
        image, hit = range_image(points, rings=1, azimuths=4, elevation=(0.0, 0.0), max_range=10.0)
        assert hit.sum() == 1
        assert image[0, 0, 2] == pytest.approx(math.hypot(2.0, 0.1))
        assert (image[~hit] == 10.0).all()
