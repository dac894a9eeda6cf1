"""Rotations in the forms that actions and processors use, converted through unit quaternions. numpy only.

Quaternions are x, y, z, w as in geometry_msgs. A rotation vector is axis times angle, rad. ``rot6d`` is the first two
columns of the rotation matrix, one after the other; any two vectors that are not parallel stand for a rotation, by
Gram-Schmidt. All functions take any leading axes and work in float64.

Own code rather than scipy: the runtime would otherwise load scipy for three formulas. The tests compare with scipy.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_TINY = 1e-12


def convert(values: ArrayLike, source: str, target: str) -> Floats:
    """Write rotations in another form.

    Args:
        values: float [..., W], W as in `vla_ros.contract.ROTATION_WIDTH` for `source`.
        source: ``rotation_vector``, ``quaternion`` or ``rot6d``.
        target: The same.

    Returns:
        float64 [..., W] for `target`. Quaternions have unit length and w ≥ 0, rotation vectors an angle of at most π.

    Raises:
        ValueError: A form is unknown, or a quaternion or rot6d is degenerate and stands for no rotation.
    """
    return from_quaternion(to_quaternion(values, source), target)


def to_quaternion(values: ArrayLike, source: str) -> Floats:
    """Return unit quaternions [..., 4] with w ≥ 0; arguments and errors as `convert`."""
    array = np.asarray(values, dtype=np.float64)
    if source == "quaternion":
        return _canonical(array)
    if source == "rotation_vector":
        half_angle = 0.5 * np.linalg.norm(array, axis=-1, keepdims=True)
        # np.sinc(x) is sin(πx)/(πx): stays exact where the angle goes to zero
        return _canonical(np.concatenate([0.5 * array * np.sinc(half_angle / np.pi), np.cos(half_angle)], axis=-1))
    if source == "rot6d":
        return _canonical(_quaternion_of_matrix(_matrix_of_rot6d(array)))
    raise ValueError(f"unknown rotation form '{source}'")


def from_quaternion(quaternions: ArrayLike, target: str) -> Floats:
    """Return quaternions [..., 4] in another form; arguments and errors as `convert`."""
    unit = _canonical(np.asarray(quaternions, dtype=np.float64))
    if target == "quaternion":
        return unit
    if target == "rotation_vector":
        vector, w = unit[..., :3], unit[..., 3:]
        sine = np.linalg.norm(vector, axis=-1, keepdims=True)
        # near zero, angle / sin(angle / 2) tends to 2
        factor = np.where(sine > _TINY, 2.0 * np.arctan2(sine, w) / np.maximum(sine, _TINY), 2.0)
        return np.asarray(vector * factor, dtype=np.float64)
    if target == "rot6d":
        matrix = matrix_of_quaternion(unit)
        return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)
    raise ValueError(f"unknown rotation form '{target}'")


def matrix_of_quaternion(quaternions: ArrayLike) -> Floats:
    """Return rotation matrices float64 [..., 3, 3] of quaternions [..., 4]."""
    x, y, z, w = _numbers(_canonical(np.asarray(quaternions, dtype=np.float64)))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def multiply(left: ArrayLike, right: ArrayLike) -> Floats:
    """Return the quaternions [..., 4] of rotating by `right` first, then by `left`."""
    lx, ly, lz, lw = _numbers(np.asarray(left, dtype=np.float64))
    rx, ry, rz, rw = _numbers(np.asarray(right, dtype=np.float64))
    product = [
        lw * rx + lx * rw + ly * rz - lz * ry,
        lw * ry - lx * rz + ly * rw + lz * rx,
        lw * rz + lx * ry - ly * rx + lz * rw,
        lw * rw - lx * rx - ly * ry - lz * rz,
    ]
    return np.stack(product, axis=-1)


def inverse(quaternions: ArrayLike) -> Floats:
    """Return the inverse rotations of unit quaternions [..., 4]."""
    conjugate: Floats = np.asarray(quaternions, dtype=np.float64) * np.array([-1.0, -1.0, -1.0, 1.0])
    return conjugate


def slerp(start: ArrayLike, end: ArrayLike, weight: float, form: str = "quaternion") -> Floats:
    """Interpolate on SO(3) along the shortest way at constant angular speed.

    Args:
        start: float [..., W], rotations at weight 0.
        end: float [..., W], rotations at weight 1.
        weight: 0 to 1.
        form: How `start`, `end` and the result are written.

    Raises:
        ValueError: As `convert`.
    """
    first, last = to_quaternion(start, form), to_quaternion(end, form)
    step = from_quaternion(multiply(inverse(first), last), "rotation_vector")
    return from_quaternion(multiply(first, to_quaternion(weight * step, "rotation_vector")), form)


def _numbers(quaternions: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return x, y, z and w of quaternions [..., 4]. Faster than `np.moveaxis` for few of them."""
    return quaternions[..., 0], quaternions[..., 1], quaternions[..., 2], quaternions[..., 3]


def _canonical(quaternions: Floats) -> Floats:
    """Scale to unit length and choose w ≥ 0 of the two quaternions of each rotation."""
    length = np.sqrt(np.add.reduce(quaternions * quaternions, axis=-1, keepdims=True))
    if not (length > 1e-6).all():  # also true of NaN
        raise ValueError("a quaternion of length zero or NaN stands for no rotation")
    unit = quaternions / length
    return np.where(unit[..., 3:] < 0, -unit, unit)


def _matrix_of_rot6d(values: Floats) -> Floats:
    first, second = values[..., :3], values[..., 3:]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    x = first / np.maximum(length, _TINY)
    rest = second - np.sum(x * second, axis=-1, keepdims=True) * x
    rest_length = np.linalg.norm(rest, axis=-1, keepdims=True)
    if not (np.all(length > 1e-6) and np.all(rest_length > 1e-6)):
        raise ValueError("a rot6d with parallel, zero or NaN columns stands for no rotation")
    y = rest / rest_length
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _quaternion_of_matrix(matrix: Floats) -> Floats:
    """Shepperd's method: of four equivalent formulas take the one with the largest divisor."""
    m00, m11, m22 = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    squares = np.stack([1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22, 1 + m00 + m11 + m22], axis=-1)
    yx, zx, zy = (matrix[..., i, j] + matrix[..., j, i] for i, j in ((1, 0), (2, 0), (2, 1)))
    dx, dy, dz = (matrix[..., i, j] - matrix[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    sx, sy, sz, sw = np.moveaxis(squares, -1, 0)
    candidates = np.stack(
        [
            np.stack([sx, yx, zx, dx], axis=-1),
            np.stack([yx, sy, zy, dy], axis=-1),
            np.stack([zx, zy, sz, dz], axis=-1),
            np.stack([dx, dy, dz, sw], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(squares, axis=-1)[..., None, None]
    return np.take_along_axis(candidates, best, axis=-2)[..., 0, :]
