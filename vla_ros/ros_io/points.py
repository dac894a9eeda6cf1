"""PointCloud2 and LaserScan → float32 [count, fields], rows of NaN where there is no point. No topics, no time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import PointsSpec
from vla_ros.data_types import DecodeError, nearest_name

# sensor_msgs/PointField: INT8 = 1 … FLOAT64 = 8
_DATATYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 8: "<f8"}

_SCAN_FIELDS = ("x", "y", "z", "range", "angle", "intensity")


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
        DecodeError: A field is missing, the data is big endian, or its size does not fit.
    """
    if message.is_bigendian and message.width * message.height:
        raise DecodeError(f"{place}: the point cloud is big endian; publish it little endian")
    dtype = _dtype(form, message, place)
    height, width = int(message.height), int(message.width)
    row_step, row_bytes = int(message.row_step), width * dtype.itemsize
    data = np.frombuffer(message.data, dtype=np.uint8)
    needed = row_step * (height - 1) + row_bytes if height and width else 0
    if (height > 1 and row_step < row_bytes) or len(data) < needed:
        raise DecodeError(
            f"{place}: {height} rows of {width} points of {dtype.itemsize} bytes do not fit "
            f"{len(data)} bytes in rows of {row_step}"
        )
    if not needed:
        return _fit(np.empty((0, len(form.fields)), np.float32), form.count)
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (row_step, 1), writeable=False)
    points = np.ascontiguousarray(rows).reshape(-1).view(dtype)
    return _fit(np.stack([points[name].astype(np.float32) for name in form.fields], axis=-1), form.count)


def decode_laser_scan(form: PointsSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return the scan's hits as points in the scanner's frame.

    Ranges outside [range_min, range_max] mean "no hit" (REP-117) and are dropped. Result and count as
    `decode_point_cloud`.

    Raises:
        DecodeError: A field is none of x, y, z (0), range, angle, intensity, or the scan has no intensities.
    """
    ranges = np.asarray(message.ranges, dtype=np.float32)
    angles = message.angle_min + message.angle_increment * np.arange(len(ranges))
    columns = {
        "x": lambda: ranges * np.cos(angles),
        "y": lambda: ranges * np.sin(angles),
        "z": lambda: np.zeros_like(ranges),
        "range": lambda: ranges,
        "angle": lambda: angles,
        "intensity": lambda: _intensities(message, len(ranges), place),
    }
    for name in form.fields:
        if name not in columns:
            hint = nearest_name(name, _SCAN_FIELDS)
            raise DecodeError(f"{place}: a laser scan has no '{name}'; fields are {', '.join(_SCAN_FIELDS)}.{hint}")
    points = np.stack([columns[name]().astype(np.float32) for name in form.fields], axis=-1)
    hit = (ranges >= message.range_min) & (ranges <= message.range_max)
    return _fit(points[hit], form.count)


def _dtype(form: PointsSpec, message: Any, place: str) -> np.dtype[np.void]:
    """Build the structured dtype of the wanted fields from the message's own description."""
    fields = {field.name: field for field in message.fields}
    offsets, formats = [], []
    for name in form.fields:
        field = fields.get(name)
        if field is None:
            raise DecodeError(
                f"{place}: the point cloud has no field '{name}'; it has {', '.join(fields) or 'none'}."
                f"{nearest_name(name, fields)}"
            )
        kind = _DATATYPES.get(int(field.datatype))
        if kind is None or int(field.count) > 1:
            raise DecodeError(f"{place}: field '{name}' has datatype {field.datatype} x {field.count}, not one number")
        if int(field.offset) + np.dtype(kind).itemsize > int(message.point_step):
            raise DecodeError(
                f"{place}: field '{name}' at byte {field.offset} lies beyond points of {message.point_step} bytes"
            )
        offsets.append(int(field.offset))
        formats.append(kind)
    layout = {"names": list(form.fields), "formats": formats, "offsets": offsets, "itemsize": int(message.point_step)}
    return np.dtype(layout)  # type: ignore[call-overload,no-any-return]  # numpy's stubs know only literal layouts


def _fit(points: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Drop points that are not finite, then thin out or pad to `count` rows."""
    points = points[np.isfinite(points).all(axis=-1)]
    if len(points) > count:
        points = points[np.arange(count) * len(points) // count]
    padding = np.full((count - len(points), points.shape[1]), np.nan, dtype=np.float32)
    return np.concatenate([points, padding])


def _intensities(message: Any, expected: int, place: str) -> NDArray[np.float32]:
    values = np.asarray(message.intensities, dtype=np.float32)
    if len(values) != expected:
        raise DecodeError(f"{place}: the scan has {expected} ranges but {len(values)} intensities")
    return values
