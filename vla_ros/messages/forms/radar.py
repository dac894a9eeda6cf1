"""RadarScan and RadarTracks → float32 [count, fields], rows of NaN where nothing was seen. No topics, no time.

Axes as in REP-103: x ahead of the sensor, y to its left, z up; azimuth anticlockwise from x, elevation above x and y.
"""

from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import PointsSpec
from vla_ros.data_types import DecodeError
from vla_ros.messages.forms.points import fit_points

_MEASURED = ("range", "azimuth", "elevation", "doppler_velocity", "amplitude")

SCAN_FIELDS = ("x", "y", "z", *_MEASURED)
"""Of a return: where it is, m, and what was measured: m, rad, rad, m/s (positive: away), dB."""

_TRACK = {
    **{axis: f"position.{axis}" for axis in "xyz"},
    **{f"v{axis}": f"velocity.{axis}" for axis in "xyz"},
    **{f"a{axis}": f"acceleration.{axis}" for axis in "xyz"},
    **{f"size_{axis}": f"size.{axis}" for axis in "xyz"},
    "classification": "classification",
}

TRACK_FIELDS = tuple(_TRACK)
"""Of a track: m, m/s, m/s², m, and the number of its class."""

_MAX_ANGLE = 2 * np.pi
"""Largest azimuth or elevation, rad; degrees by mistake are far beyond."""


def decode_radar_scan(form: PointsSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return a radar's returns in the form that the contract asks for.

    Returns with a number that is not finite are dropped; result and count as `points.decode_point_cloud`.

    Args:
        form: Number of points and names of their fields, of `SCAN_FIELDS`.
        message: Any object with RadarScan's fields.
        place: Topic and key, for messages.

    Raises:
        DecodeError: An angle is beyond a turn, or a range below 0.
    """
    rows = [[getattr(item, name) for name in _MEASURED] for item in message.returns]
    measured = np.array(rows, np.float64).reshape(-1, len(_MEASURED))
    ranges, azimuth, elevation = measured[:, 0], measured[:, 1], measured[:, 2]
    if (np.abs(measured[:, 1:3]) > _MAX_ANGLE).any():  # False for NaN, which is dropped
        worst = float(np.nanmax(np.abs(measured[:, 1:3])))
        raise DecodeError(f"{place}: a radar return has an angle of {worst:g} rad, beyond a turn; angles are in rad")
    if (ranges < 0).any():
        raise DecodeError(f"{place}: a radar return has a range of {float(np.nanmin(ranges)):g} m, below 0")
    ahead = ranges * np.cos(elevation)
    columns = dict(zip(_MEASURED, measured.T, strict=True))
    columns |= {"x": ahead * np.cos(azimuth), "y": ahead * np.sin(azimuth), "z": ranges * np.sin(elevation)}
    return _chosen(form, columns, len(rows))


def decode_radar_tracks(form: PointsSpec, message: Any, place: str) -> NDArray[np.float32]:  # noqa: ARG001
    """Return a radar's tracks; fields of `TRACK_FIELDS`, otherwise as `decode_radar_scan`."""
    columns = {
        name: np.array([attrgetter(_TRACK[name])(track) for track in message.tracks], np.float64)
        for name in form.fields
    }
    return _chosen(form, columns, len(message.tracks))


def _chosen(form: PointsSpec, columns: dict[str, NDArray[np.float64]], count: int) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite and is dropped
        points = np.stack([columns[name].astype(np.float32) for name in form.fields], axis=-1)
    return fit_points(points.reshape(count, len(form.fields)), form.count)
