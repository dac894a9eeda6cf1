"""The measured state of the robot, as the filter takes it, and how it is put together from the inputs' vectors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ROTATION_WIDTH, MeasurementSpec
from vla_ros.data_types import NANOSECONDS
from vla_ros.data_types.rotations import multiply, to_quaternion
from vla_ros.safety.limits import Vector

LARGEST = 1e12
"""No length, angle or speed of a robot is larger; squares of larger numbers would overflow."""
_SHORTEST = 1e-6  # a shorter quaternion stands for no rotation


@dataclass(frozen=True)
class Measured:
    """Where the robot is. A part that is not known is None, a joint that is not known is NaN.

    Attributes:
        position: float64 [3], end effector in the base frame, m.
        orientation: float64 [4], unit quaternion x, y, z, w of the end effector in the base frame.
        joints: float64 [A], one per action number, rad.
        base: float64 [3], x, y, yaw of a mobile base in the frame of its trajectory, m, rad.
        points: [N, F], the newest scan that a base keeps clear of, x and y first, m, in the frame of the LiDAR.
        stamp_ns: When the oldest part of it was measured.
    """

    position: Vector | None = None
    orientation: Vector | None = None
    joints: Vector | None = None
    base: Vector | None = None
    points: NDArray[np.generic] | None = None
    stamp_ns: int = 0

    def moved(self, velocity: Vector, turn: Vector, duration_s: float) -> "Measured":
        """Return the state after a motion, m/s and rad/s in the base frame; joints stay."""
        position = None if self.position is None else self.position + velocity * duration_s
        orientation = self.orientation
        if orientation is not None and turn.any():
            orientation = multiply(to_quaternion(turn * duration_s, "rotation_vector"), orientation)
        shift_ns = round(duration_s * NANOSECONDS)
        return replace(self, position=position, orientation=orientation, stamp_ns=self.stamp_ns + shift_ns)


def measurement_from(
    sources: MeasurementSpec, values: Mapping[int, NDArray[np.generic]], stamps_ns: Mapping[int, int]
) -> Measured:
    """Put the measured state together from the newest sample of each input.

    Args:
        sources: Which numbers of which inputs, from `measured_sources`.
        values: Index of an input in the contract → its newest vector; inputs without a sample are left out.
        stamps_ns: The same indices → the sample's stamp.

    Returns:
        What is known of it: a part is None when an input of it has no sample, holds a number that is not finite, or a
        quaternion that stands for no rotation.
    """

    def known(part: tuple[tuple[int, int], ...] | None) -> Vector | None:
        if part is None or any(index not in values for index, _ in part):
            return None
        numbers = np.array([values[index][number] for index, number in part], dtype=np.float64)
        return numbers if usable(numbers) else None

    orientation = known(sources.orientation)
    joints = None
    if sources.joints is not None:
        joints = np.array(
            [np.nan if n is None or n[0] not in values else values[n[0]][n[1]] for n in sources.joints], np.float64
        )
    stamps = [stamps_ns[index] for index in sources.inputs if index in stamps_ns]
    return Measured(
        position=known(sources.position),
        orientation=None if orientation is None else unit_quaternion(orientation, sources.rotation),
        joints=joints,
        base=_planar(known(sources.base)),
        points=None if sources.scan is None else values.get(sources.scan),
        stamp_ns=min(stamps, default=0),
    )


def _planar(numbers: Vector | None) -> Vector | None:
    """Return x, y, yaw of those numbers, or of x, y and a quaternion's z and w."""
    if numbers is None or len(numbers) == 3:
        return numbers
    x, y, z, w = numbers.tolist()
    if np.hypot(z, w) < _SHORTEST:
        return None
    return np.array([x, y, 2.0 * np.arctan2(z, w)])


def usable(values: Vector) -> bool:
    """Whether all numbers are finite and small enough to compute with."""
    return bool((np.abs(values) <= LARGEST).all())  # false of NaN


def unit_quaternion(values: Vector, form: str) -> Vector | None:
    """Return a rotation as a unit quaternion, or None where it stands for none."""
    if values.shape != (ROTATION_WIDTH[form],) or not usable(values):
        return None
    if form == "quaternion":
        length = float(np.sqrt(values @ values))
        return values / length if length > _SHORTEST else None
    try:
        return to_quaternion(values, form)
    except ValueError:
        return None


def cleaned(measured: "Measured | NDArray[np.generic] | None", action_dim: int, *, joints: bool) -> Measured:
    """Return what is usable of a measurement: parts that are not finite or of another size are not known.

    Where a base is in its trajectory's frame is no matter of the filter, which bounds twists.

    Args:
        measured: A measurement, or a bare array: positions of the joints, or else of the end effector.
        action_dim: Numbers of an action, hence of the joints.
        joints: What a bare array holds.
    """
    if measured is None:
        return Measured()
    if not isinstance(measured, Measured):
        values = np.asarray(measured, dtype=np.float64)
        measured = Measured(joints=values) if joints else Measured(position=values)
    position, orientation = measured.position, measured.orientation
    if position is not None:
        position = np.asarray(position, dtype=np.float64)
        position = position if position.shape == (3,) and usable(position) else None
    if orientation is not None:
        orientation = unit_quaternion(np.asarray(orientation, dtype=np.float64), "quaternion")
    angles = None
    if measured.joints is not None:
        angles = np.asarray(measured.joints, dtype=np.float64)
        angles = np.where(np.abs(angles) <= LARGEST, angles, np.nan) if angles.shape == (action_dim,) else None
    return Measured(position, orientation, angles, points=measured.points, stamp_ns=measured.stamp_ns)
