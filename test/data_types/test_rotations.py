import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_ros.data_types import rotations

FORMS = ("rotation_vector", "quaternion", "rot6d")
VECTORS = arrays(np.float64, (5, 3), elements=st.floats(-1.8, 1.8))  # angles up to 3.12 rad


def test_quarter_turn_about_z_in_every_form() -> None:
    expected = {
        "rotation_vector": [0, 0, np.pi / 2],
        "quaternion": [0, 0, np.sqrt(0.5), np.sqrt(0.5)],
        "rot6d": [0, 1, 0, -1, 0, 0],
    }
    for source in FORMS:
        for target in FORMS:
            got = rotations.convert(expected[source], source, target)
            np.testing.assert_allclose(got, expected[target], atol=1e-12)


@given(VECTORS)
def test_every_form_leads_back_to_the_rotation_vector(vectors: np.ndarray) -> None:
    for form in FORMS:
        there = rotations.convert(vectors, "rotation_vector", form)
        back = rotations.convert(there, form, "rotation_vector")
        np.testing.assert_allclose(back, vectors, atol=1e-7)


@given(VECTORS)
def test_matrices_are_rotations(vectors: np.ndarray) -> None:
    matrix = rotations.matrix_of_quaternion(rotations.to_quaternion(vectors, "rotation_vector"))
    np.testing.assert_allclose(
        matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), matrix.shape), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-9)


def test_conversions_agree_with_scipy() -> None:
    spatial = pytest.importorskip("scipy.spatial.transform")
    reference = spatial.Rotation.random(200, random_state=0)
    quaternions = reference.as_quat(canonical=True)
    np.testing.assert_allclose(
        rotations.convert(quaternions, "quaternion", "rotation_vector"), reference.as_rotvec(), atol=1e-12
    )
    np.testing.assert_allclose(rotations.matrix_of_quaternion(quaternions), reference.as_matrix(), atol=1e-12)
    columns = reference.as_matrix()
    rot6d = np.concatenate([columns[..., 0], columns[..., 1]], axis=-1)
    np.testing.assert_allclose(rotations.convert(rot6d, "rot6d", "quaternion"), quaternions, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_slerp_keeps_its_ends_and_halves_the_angle(form: str) -> None:
    start = rotations.convert([0.0, 0.0, 0.2], "rotation_vector", form)
    end = rotations.convert([0.0, 0.0, 1.0], "rotation_vector", form)
    np.testing.assert_allclose(rotations.slerp(start, end, 0.0, form), start, atol=1e-12)
    np.testing.assert_allclose(rotations.slerp(start, end, 1.0, form), end, atol=1e-12)
    middle = rotations.convert(rotations.slerp(start, end, 0.5, form), form, "rotation_vector")
    np.testing.assert_allclose(middle, [0, 0, 0.6], atol=1e-12)


def test_slerp_takes_the_short_way_between_opposite_signs_of_a_quaternion() -> None:
    start = np.array([0.0, 0.0, 0.1, 0.99])
    middle = rotations.slerp(start, -start, 0.5)
    np.testing.assert_allclose(middle, start / np.linalg.norm(start), atol=1e-12)


def test_a_half_turn_converts_without_loss() -> None:
    for axis in np.eye(3):
        quaternion = rotations.convert(axis * np.pi, "rotation_vector", "quaternion")
        back = rotations.convert(rotations.convert(quaternion, "quaternion", "rot6d"), "rot6d", "quaternion")
        assert abs(float(np.dot(quaternion, back))) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("values", "form"), [([0, 0, 0, 0], "quaternion"), ([np.nan, 0, 0, 1], "quaternion"), ([1, 0, 0, 2, 0, 0], "rot6d")]
)
def test_numbers_that_are_no_rotation_are_refused(values: list[float], form: str) -> None:
    with pytest.raises(ValueError, match="stands for no rotation"):
        rotations.convert(values, form, "rotation_vector")


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown rotation form 'euler'"):
        rotations.convert([0, 0, 0], "euler", "quaternion")
    with pytest.raises(ValueError, match="unknown rotation form 'euler'"):
        rotations.convert([0, 0, 0], "rotation_vector", "euler")
