"""PointCloud2 and LaserScan → float32 [count, fields], rows of NaN where there is no point. No topics, no time."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import PointsSpec
from vla_ros.data_types import DecodeError, nearest_name
from vla_ros.data_types.foreign_text import MAX_NAMES, listed, plain

# sensor_msgs/PointField: INT8 = 1 … FLOAT64 = 8
_DATATYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 8: "<f8"}

_SCAN_FIELDS = ("x", "y", "z", "range", "angle", "intensity")

_MAX_ANGLE = 4 * np.pi
"""Largest angle of a ray, rad: two turns. Scanners start anywhere within one; degrees by mistake are far beyond."""


def decode_point_cloud(form: PointsSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return the cloud's points in the form that the contract asks for.

    Points with a value that is not finite are dropped. Of too many, evenly spaced ones are kept, by index, so that
    the same message always gives the same points; too few are followed by rows of NaN.

    Args:
        form: Number of points and names of their fields.
        message: Any object with PointCloud2's fields; any layout of fields, organised or not.
        place: Topic and key, for messages.

    Returns:
        float32 [form.count, len(form.fields)].

    Raises:
        DecodeError: A field is missing or there twice, fields overlap, the data is big endian or of another size.
    """
    height, width = int(message.height), int(message.width)
    point_step, row_step = int(message.point_step), int(message.row_step)
    if message.is_bigendian and width * height:
        raise DecodeError(f"{place}: the point cloud is big endian; publish it little endian")
    fields = _wanted_fields(form, message, point_step, place)
    row_bytes = width * point_step
    data = np.frombuffer(message.data, dtype=np.uint8)
    needed = row_step * (height - 1) + row_bytes if height and width else 0
    if (height > 1 and row_step < row_bytes) or len(data) < needed:
        raise DecodeError(
            f"{place}: {height} rows of {width} points of {point_step} bytes do not fit "
            f"{len(data)} bytes in rows of {row_step}"
        )
    if not needed:
        return fit_points(np.empty((0, len(form.fields)), np.float32), form.count)
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (row_step, 1), writeable=False)
    points = np.ascontiguousarray(rows).reshape(-1).view(_dtype(fields, point_step))
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite and is dropped
        return fit_points(np.stack([points[name].astype(np.float32) for name in form.fields], axis=-1), form.count)


def decode_laser_scan(form: PointsSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return the scan's hits as points in the scanner's frame.

    Ranges outside [range_min, range_max] mean "no hit" (REP-117) and are dropped. Result and count as
    `decode_point_cloud`.

    Raises:
        DecodeError: A field is none of x, y, z (0), range, angle, intensity; the angles or the limits of the range are
            not numbers that a scanner has; or there are not as many intensities as ranges.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite and is dropped
        ranges = np.asarray(message.ranges, dtype=np.float32)
        angles = _angles(message, len(ranges), place)
        intensities = _intensities(message, len(ranges), place, wanted="intensity" in form.fields)
        columns = {
            "x": lambda: ranges * np.cos(angles),
            "y": lambda: ranges * np.sin(angles),
            "z": lambda: np.zeros_like(ranges),
            "range": lambda: ranges,
            "angle": lambda: angles,
            "intensity": lambda: intensities,
        }
        for name in form.fields:
            if name not in columns:
                hint = nearest_name(name, _SCAN_FIELDS)
                raise DecodeError(f"{place}: a laser scan has no '{name}'; fields are {', '.join(_SCAN_FIELDS)}.{hint}")
        points = np.stack([columns[name]().astype(np.float32) for name in form.fields], axis=-1)
    hit = (ranges >= message.range_min) & (ranges <= message.range_max)
    return fit_points(points[hit], form.count)


def _wanted_fields(form: PointsSpec, message: Any, point_step: int, place: str) -> dict[str, tuple[str, int]]:
    """Return the wanted fields' formats and offsets, by name."""
    sent = [(str(field.name), field) for field in message.fields]
    wanted: dict[str, tuple[str, int]] = {}
    for name in form.fields:
        same = [field for other, field in sent if other == name]
        if len(same) != 1:
            names = [other for other, _ in sent]
            raise DecodeError(
                f"{place}: the point cloud has {'no' if not same else 'more than one'} field '{name}'; "
                f"it has {listed(names)}.{nearest_name(name, map(plain, names[:MAX_NAMES])) if not same else ''}"
            )
        wanted[name] = _place_of(same[0], point_step, place)
    taken = sorted((offset, offset + np.dtype(kind).itemsize, name) for name, (kind, offset) in wanted.items())
    for (_, end, before), (begin, _, after) in pairwise(taken):
        if begin < end:
            raise DecodeError(f"{place}: fields '{before}' and '{after}' of the point cloud overlap at byte {begin}")
    return wanted


def _place_of(field: Any, point_step: int, place: str) -> tuple[str, int]:
    """Return a field's format and its offset within a point."""
    kind, offset = _DATATYPES.get(int(field.datatype)), int(field.offset)
    if kind is None or int(field.count) > 1:
        raise DecodeError(
            f"{place}: field '{field.name}' has datatype {field.datatype} x {field.count}, not one number"
        )
    if offset + np.dtype(kind).itemsize > point_step:
        raise DecodeError(f"{place}: field '{field.name}' at byte {offset} lies beyond points of {point_step} bytes")
    return kind, offset


def _dtype(fields: dict[str, tuple[str, int]], point_step: int) -> np.dtype[np.void]:
    """Return the structured dtype that reads the wanted fields; `point_step` has been found to fit the data."""
    formats, offsets = zip(*fields.values(), strict=True)
    layout = {"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": point_step}
    return np.dtype(layout)  # type: ignore[call-overload,no-any-return]  # numpy's stubs know only literal layouts


def _angles(message: Any, count: int, place: str) -> NDArray[np.float64]:
    """Return the rays' angles, rad."""
    low, high = float(message.range_min), float(message.range_max)
    if not low <= high:  # also true of NaN
        raise DecodeError(f"{place}: the scan's ranges are between {low:g} and {high:g} m, which no range is")
    first, step = float(message.angle_min), float(message.angle_increment)
    last = first + step * (count - 1)
    if not (abs(first) <= _MAX_ANGLE and (count < 1 or abs(last) <= _MAX_ANGLE)):
        raise DecodeError(
            f"{place}: the scan's {count} rays go from {first:g} to {last:g} rad, beyond two turns; angles are in rad"
        )
    return np.asarray(message.angle_min + message.angle_increment * np.arange(count))


def _intensities(message: Any, expected: int, place: str, *, wanted: bool) -> NDArray[np.float32]:
    values = np.asarray(message.intensities, dtype=np.float32)
    if len(values) != expected and (wanted or len(values)):
        raise DecodeError(f"{place}: the scan has {expected} ranges but {len(values)} intensities")
    return values


def fit_points(points: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Drop points that are not finite, then thin out evenly by index, or pad by rows of NaN, to `count` rows."""
    points = points[np.isfinite(points).all(axis=-1)]
    if len(points) > count:
        points = points[np.arange(count) * len(points) // count]
    padding = np.full((count - len(points), points.shape[1]), np.nan, dtype=np.float32)
    return np.concatenate([points, padding])
