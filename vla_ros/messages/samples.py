"""An example message of every type, for tests, benchmarks and documentation. No ROS import.

The messages are rosbags'; `message_types.serialize` makes the bytes that a node would receive. The rows of the types
hold the makers; the pieces that several of them need stand here.
"""

from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, InputSpec, RecordSpec
from vla_ros.contract.types import message_types
from vla_ros.data_types import NANOSECONDS

Rng = np.random.Generator


def make_example_message(spec: InputSpec, stamp_ns: int, seed: int = 0) -> Any:
    """Return a rosbags message that fits an input of a contract; the same seed gives the same numbers."""
    kind = message_types()[spec.type].as_input
    if kind is None:
        raise KeyError(f"{spec.type} is no input")
    return kind.sample(spec, stamp_ns, np.random.default_rng(seed))


def make_example_action(
    action: ActionSpec, stamp_ns: int, seed: int = 0, period_ns: int = 50_000_000, record: RecordSpec | None = None
) -> Any:
    """Return a rosbags message that fits a record topic of a contract; otherwise as `make_example_message`."""
    record = record or action.record
    kind = message_types()[record.type].as_record
    if kind is None:
        raise KeyError(f"{record.type} is no record")
    return kind.sample(action, record, stamp_ns, period_ns, np.random.default_rng(seed))


def new(type_name: str, *fields: Any) -> Any:
    """Return a rosbags message."""
    from vla_ros.messages.message_types import typestore  # rosbags, which a contract does not need

    return typestore().types[type_name](*fields)


def time_of(stamp_ns: int) -> Any:
    """Return a builtin_interfaces/Time."""
    return new("builtin_interfaces/msg/Time", stamp_ns // NANOSECONDS, stamp_ns % NANOSECONDS)


def duration_of(length_ns: int) -> Any:
    """Return a builtin_interfaces/Duration."""
    return new("builtin_interfaces/msg/Duration", length_ns // NANOSECONDS, length_ns % NANOSECONDS)


def header(stamp_ns: int, frame: str | None) -> Any:
    """Return a std_msgs/Header."""
    return new("std_msgs/msg/Header", time_of(stamp_ns), frame or "")


def vector3(rng: Rng) -> Any:
    """Return a geometry_msgs/Vector3."""
    return new("geometry_msgs/msg/Vector3", *rng.normal(size=3).tolist())


def quaternion(rng: Rng) -> Any:
    """Return a geometry_msgs/Quaternion of length 1."""
    values = rng.normal(size=4)
    return new("geometry_msgs/msg/Quaternion", *(values / np.linalg.norm(values)).tolist())


def pose(rng: Rng) -> Any:
    """Return a geometry_msgs/Pose."""
    position = new("geometry_msgs/msg/Point", *rng.normal(size=3).tolist())
    return new("geometry_msgs/msg/Pose", position, quaternion(rng))


def pose_with_covariance(rng: Rng) -> Any:
    """Return a geometry_msgs/PoseWithCovariance."""
    return new("geometry_msgs/msg/PoseWithCovariance", pose(rng), np.zeros(36))


def twist(rng: Rng) -> Any:
    """Return a geometry_msgs/Twist."""
    return new("geometry_msgs/msg/Twist", vector3(rng), vector3(rng))


def multi_array(type_name: str, values: Any) -> Any:
    """Return a std_msgs MultiArray of one dimension without a layout."""
    dtype = np.float32 if "32" in type_name else np.float64
    return new(type_name, new("std_msgs/msg/MultiArrayLayout", [], 0), np.asarray(values, dtype=dtype))
