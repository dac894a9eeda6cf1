"""The bird's-eye view reads the pixel at which a hand-made projection finds the cell."""

import math

import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks.fusion import CameraLift, CameraModel
from vla_ros.networks.fusion.bev import cell_points

# optical axes (x right, y down, z ahead) of a camera that looks along the robot's x, as columns in the robot's frame
AHEAD = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
BEHIND = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
FRONT = CameraModel((40.0, 40.0, 31.5, 19.5), (40, 64), AHEAD, (0.1, 0.0, 0.5))
REAR = CameraModel((40.0, 40.0, 31.5, 19.5), (40, 64), BEHIND, (-0.1, 0.0, 0.5))


def test_a_point_lands_where_a_calculation_by_hand_puts_it() -> None:
    # 2 m ahead of the camera, 0.5 m to the left, 0.25 m below it: u = 31.5 − 40·0.5/2, v = 19.5 + 40·0.25/2
    pixel, seen = FRONT.project(torch.tensor([[2.1, 0.5, 0.25], [-2.0, 0.0, 0.5], [0.6, 2.0, 0.5]]))
    assert pixel[0].tolist() == pytest.approx([21.5, 24.5])
    assert seen.tolist() == [True, False, False]


def test_a_cell_reads_the_pixel_that_it_projects_to() -> None:
    # maps whose value is their own pixel position, so that reading one says where it was read
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(64.0), indexing="ij")
    position = torch.stack([columns, rows])[None]
    lift = CameraLift([FRONT, REAR], (-4.0, 4.0), (-4.0, 4.0), (8, 8), heights=(0.0,))
    map_BCXY, seen_BXY = lift([position, position])
    centres = cell_points((-4.0, 4.0), (-4.0, 4.0), (8, 8), (0.0,)).reshape(8, 8, 3)
    checked = 0
    for i in range(8):
        for j in range(8):
            x, y, z = centres[i, j].tolist()
            ahead, left = (x - 0.1, y) if x > 0 else (-0.1 - x, -y)
            u, v = 31.5 - 40 * left / ahead, 19.5 + 40 * (0.5 - z) / ahead
            inside = 0 <= u <= 63 and 0 <= v <= 39
            if inside:
                assert seen_BXY[0, i, j]
                assert map_BCXY[0, :, i, j].tolist() == pytest.approx([u, v], abs=1e-4)
                checked += 1
            elif not (-0.5 <= u < 63.5 and -0.5 <= v < 39.5):
                assert not seen_BXY[0, i, j]
                assert not map_BCXY[0, :, i, j].any()
    assert checked > 20


def test_a_coarser_map_of_the_same_camera_reads_the_same_place() -> None:
    coarse = torch.nn.functional.avg_pool2d(torch.arange(64.0).expand(1, 1, 40, 64), 4)
    lift = CameraLift([FRONT], (1.0, 4.0), (-0.5, 0.5), (3, 1), heights=(0.5,))
    assert lift([coarse])[0].flatten().tolist() == pytest.approx([31.5] * 3, abs=1e-4)


def test_cameras_that_see_the_same_cell_are_averaged_and_an_absent_one_is_left_out() -> None:
    lift = CameraLift([FRONT, FRONT], (1.0, 3.0), (-0.5, 0.5), (2, 2), heights=(0.3, 0.5))
    maps = [torch.full((2, 3, 10, 16), 1.0), torch.full((2, 3, 10, 16), 3.0)]
    map_BCXY, _ = lift(maps, torch.tensor([[True, True], [False, True]]))
    assert torch.allclose(map_BCXY[0], torch.tensor(2.0))
    assert torch.allclose(map_BCXY[1], torch.tensor(3.0))


def test_a_turned_camera_sees_what_lies_in_its_direction() -> None:
    angle = math.radians(90)  # the front camera, turned to the left
    turn = ((math.cos(angle), -math.sin(angle), 0), (math.sin(angle), math.cos(angle), 0), (0, 0, 1))
    rotation = tuple(tuple(sum(turn[i][k] * AHEAD[k][j] for k in range(3)) for j in range(3)) for i in range(3))
    camera = CameraModel((40.0, 40.0, 31.5, 19.5), (40, 64), rotation, (0.0, 0.0, 0.5))  # type: ignore[arg-type]
    pixel, seen = camera.project(torch.tensor([[0.0, 2.0, 0.5], [0.5, 2.0, 0.5], [2.0, 0.0, 0.5]]))
    assert seen.tolist() == [True, True, False]
    assert pixel[0].tolist() == pytest.approx([31.5, 19.5], abs=1e-4)
    assert pixel[1].tolist() == pytest.approx([41.5, 19.5], abs=1e-4)  # ahead of the robot is to the camera's right


def test_a_view_without_cameras_is_refused() -> None:
    with pytest.raises(ConfigError, match="cameras"):
        CameraLift([], (0.0, 1.0), (0.0, 1.0), (2, 2))
