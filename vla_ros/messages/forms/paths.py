"""nav_msgs/Path → float32 [count, fields], the waypoints ahead, rows of NaN after the last. No topics, no time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import PointsSpec
from vla_ros.messages.forms.vectors import check_finite, check_quaternion
from vla_ros.messages.frames import check_frame

PATH_FIELDS = ("x", "y", "z", "yaw")
"""Of a waypoint, in the frame of the path: m, and the turn about z, rad, −π to π."""


def decode_path(form: PointsSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return a path's waypoints in the form that the contract asks for.

    Of too many, evenly spaced ones are kept by index, the first and the last among them; too few are followed by rows
    of NaN. An empty path, with which planners say that there is no plan, is rows of NaN.

    Args:
        form: Number of waypoints and names of their fields, of `PATH_FIELDS`.
        message: Any object with Path's fields.
        place: Topic and key, for messages.

    Returns:
        float32 [form.count, len(form.fields)].

    Raises:
        DecodeError: A waypoint is in another frame than the path, is not finite, or has no orientation.
    """
    count = len(message.poses)
    kept: Sequence[int] = range(count)
    if count > form.count:
        steps = form.count - 1
        kept = [(2 * k * (count - 1) + steps) // (2 * steps) for k in range(form.count)] if steps else [count - 1]
    rows = [_waypoint(form, message, index, place) for index in kept]
    points = np.full((form.count, len(form.fields)), np.nan, np.float32)
    points[: len(rows)] = np.array(rows, np.float32).reshape(len(rows), len(form.fields))
    return points


def _waypoint(form: PointsSpec, message: Any, index: int, place: str) -> list[float]:
    at = f"{place}: waypoint {index}"
    pose = checked_pose(message, index, place)
    values = {"x": pose.position.x, "y": pose.position.y, "z": pose.position.z}
    if "yaw" in form.fields:
        values["yaw"] = yaw_of(pose.orientation, at)
    numbers = [float(values[name]) for name in form.fields]
    check_finite(np.array(numbers), form.fields, at)
    return numbers


def checked_pose(message: Any, index: int, place: str) -> Any:
    """Return the pose of a waypoint.

    Raises:
        DecodeError: Its own header names another frame than the path's.
    """
    stamped = message.poses[index]
    if stamped.header.frame_id:  # many planners leave it empty
        check_frame(stamped.header.frame_id, message.header.frame_id, f"{place}: waypoint {index}")
    return stamped.pose


def yaw_of(turn: Any, place: str) -> float:
    """Return the turn about z of a geometry_msgs/Quaternion, rad.

    Raises:
        DecodeError: It is no rotation.
    """
    check_quaternion([turn.x, turn.y, turn.z, turn.w], "orientation", place)
    return float(np.arctan2(2 * (turn.w * turn.z + turn.x * turn.y), 1 - 2 * (turn.y**2 + turn.z**2)))
