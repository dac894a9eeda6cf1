import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.objectives import scale_to_spherical, spherical_error, to_cartesian, to_spherical
from vla_ros.objectives.spherical import FLOOR

POLES = [(0.0, 0.0, 0.5), (0.0, 0.0, -0.5)]
NEARLY = [(1e-30, 0.0, 0.0), (1e-20, -1e-20, 1e-20), (1e-13, 1e-13, 0.5), (0.0, 1e-7, -1.0)]
number = st.floats(-1.0, 1.0, width=32)


@settings(max_examples=300)
@given(number, number, number)
def test_there_and_back_is_the_same_motion(x, y, z):
    motion = torch.tensor([x, y, z])
    if motion.norm() < FLOOR:
        motion = motion + FLOOR
    torch.testing.assert_close(to_cartesian(to_spherical(motion)), motion, rtol=0.0, atol=1e-6)


@settings(max_examples=100)
@given(st.floats(1e-3, 1.7), st.floats(0.01, math.pi - 0.01), st.floats(-3.1, 3.1))
def test_back_and_there_is_the_same_direction(length, elevation, azimuth):
    spherical = torch.tensor([length, elevation, azimuth])
    torch.testing.assert_close(to_spherical(to_cartesian(spherical)), spherical, rtol=0.0, atol=2e-4)


@pytest.mark.parametrize(
    ("motion", "expected"),
    [
        ((1.0, 0.0, 0.0), (1.0, math.pi / 2, 0.0)),
        ((0.0, 2.0, 0.0), (2.0, math.pi / 2, math.pi / 2)),
        ((0.0, -1.0, 0.0), (1.0, math.pi / 2, -math.pi / 2)),
        ((0.0, 0.0, 0.5), (0.5, 0.0, 0.0)),
        ((0.0, 0.0, -0.5), (0.5, math.pi, 0.0)),
        ((0.0, 0.0, 0.0), (FLOOR, 0.0, 0.0)),
    ],
)
def test_angles_are_elevation_from_z_and_azimuth_from_x(motion, expected):
    assert to_spherical(torch.tensor(motion)).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("motion", [(0.0, 0.0, 0.0), *POLES, *NEARLY])
def test_gradients_are_finite_at_the_pole_and_at_zero(motion):
    leaf = torch.tensor(motion, requires_grad=True)
    spherical = to_spherical(leaf)
    assert spherical.isfinite().all()
    for part in range(3):
        (gradient,) = torch.autograd.grad(spherical[part], leaf, retain_graph=True)
        assert gradient.isfinite().all(), part
    leaf = to_spherical(torch.tensor(motion)).requires_grad_()
    to_cartesian(leaf).sum().backward()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("motion", [(0.0, 0.0, 0.0), *POLES, *NEARLY])
def test_error_towards_the_pole_and_zero_has_finite_gradients(motion):
    bounded = torch.zeros(3, requires_grad=True)
    spherical_error(scale_to_spherical(bounded), torch.tensor(motion)).square().sum().backward()
    assert bounded.grad.isfinite().all()


def test_affine_scaling_reaches_every_length_and_sigmoid_of_tanh_does_not():
    ends = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    affine = scale_to_spherical(ends)
    assert affine.flatten().tolist() == pytest.approx([0.0, 0.0, -math.pi, math.sqrt(3.0), math.pi, math.pi])
    assert scale_to_spherical(ends, largest=0.5)[:, 0].tolist() == pytest.approx([0.0, 0.5])
    walkthrough = scale_to_spherical(ends, "sigmoid_tanh")
    assert walkthrough[:, 0].tolist() == pytest.approx([0.26894, 0.73106], abs=1e-5)
    assert torch.equal(walkthrough[:, 1:], affine[:, 1:])


def test_azimuth_goes_the_short_way_round():
    predicted = torch.tensor([1.0, math.pi / 2, math.pi - 0.1])
    target = to_cartesian(torch.tensor([1.0, math.pi / 2, -math.pi + 0.1]))
    assert spherical_error(predicted, target).tolist() == pytest.approx([0.0, 0.0, -0.2], abs=1e-6)


@settings(max_examples=100)
@given(st.floats(-3.14, 3.14), st.floats(-3.14, 3.14))
def test_error_of_the_azimuth_is_never_more_than_half_a_turn(predicted, target):
    motion = to_cartesian(torch.tensor([1.0, 1.0, target]))
    error = spherical_error(torch.tensor([1.0, 1.0, predicted]), motion)[2].item()
    assert abs(error) <= math.pi + 1e-5
    assert math.cos(error) == pytest.approx(math.cos(predicted - target), abs=1e-5)


def test_a_motion_at_the_floor_has_no_error_of_its_angles():
    predicted = torch.tensor([0.3, 1.0, 2.0])
    for motion in ((0.0, 0.0, 0.0), (FLOOR / 2, FLOOR / 2, 0.0)):
        error = spherical_error(predicted, torch.tensor(motion))
        assert error.tolist() == pytest.approx([0.3 - FLOOR, 0.0, 0.0])


def test_a_motion_along_z_has_no_error_of_its_azimuth():
    error = spherical_error(torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.0, 0.0, 0.5]))
    assert error.tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)  # float32
