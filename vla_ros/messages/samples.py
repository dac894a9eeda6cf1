"""An example message of every input and action type, for tests, benchmarks and documentation. No ROS import.

The messages are rosbags'; `message_types.serialize` makes the bytes that a node would receive.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, InputSpec
from vla_ros.data_types import NANOSECONDS
from vla_ros.messages.decoders import REPRESENTATIONS
from vla_ros.messages.message_types import typestore

Rng = np.random.Generator


def make_example_message(spec: InputSpec, stamp_ns: int, seed: int = 0) -> Any:
    """Return a rosbags message that fits an input of a contract; the same seed gives the same numbers.

    Raises:
        KeyError: The type has no sample yet; add one to `SAMPLES`.
    """
    return SAMPLES[spec.type](spec, stamp_ns, np.random.default_rng(seed))


def make_example_action(action: ActionSpec, stamp_ns: int, seed: int = 0, period_ns: int = 50_000_000) -> Any:
    """Return a rosbags message that fits the record topic of a contract; otherwise as `make_example_message`."""
    rng = np.random.default_rng(seed)
    return ACTION_SAMPLES[action.record.type](action, stamp_ns, period_ns, rng)


def _new(type_name: str, *fields: Any) -> Any:
    return typestore().types[type_name](*fields)


def _time(stamp_ns: int) -> Any:
    return _new("builtin_interfaces/msg/Time", stamp_ns // NANOSECONDS, stamp_ns % NANOSECONDS)


def _header(stamp_ns: int, frame: str | None) -> Any:
    return _new("std_msgs/msg/Header", _time(stamp_ns), frame or "")


def _vector3(rng: Rng) -> Any:
    return _new("geometry_msgs/msg/Vector3", *rng.normal(size=3).tolist())


def _quaternion(rng: Rng) -> Any:
    values = rng.normal(size=4)
    return _new("geometry_msgs/msg/Quaternion", *(values / np.linalg.norm(values)).tolist())


def _pose(rng: Rng) -> Any:
    position = _new("geometry_msgs/msg/Point", *rng.normal(size=3).tolist())
    return _new("geometry_msgs/msg/Pose", position, _quaternion(rng))


def _twist(rng: Rng) -> Any:
    return _new("geometry_msgs/msg/Twist", _vector3(rng), _vector3(rng))


def _image(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    height, width = (96, 128) if spec.image is None or spec.image.crop is None else (480, 640)
    pixels = rng.integers(0, 256, height * width * 3, dtype=np.uint8)
    return _new(spec.type, _header(stamp_ns, spec.frame), height, width, "rgb8", 0, width * 3, pixels)


def _compressed_image(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    import cv2

    pixels = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].reshape(-1)
    return _new(spec.type, _header(stamp_ns, spec.frame), "jpeg", data)


def _joint_state(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    names = [*reversed(spec.names), "another_joint"]
    position, velocity, effort = rng.normal(size=(3, len(names)))
    return _new(spec.type, _header(stamp_ns, spec.frame), names, position, velocity, effort)


def _imu(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    unknown = np.zeros(9)
    fields = [_quaternion(rng), unknown, _vector3(rng), unknown, _vector3(rng), unknown]
    return _new(spec.type, _header(stamp_ns, spec.frame), *fields)


def _point_cloud(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    names = ("x", "y", "z") if spec.points is None else spec.points.fields
    count = 100 if spec.points is None else 2 * spec.points.count
    fields = [_new("sensor_msgs/msg/PointField", name, 4 * index, 7, 1) for index, name in enumerate(names)]
    data = rng.normal(size=(count, len(names))).astype(np.float32).view(np.uint8).reshape(-1)
    step = 4 * len(names)
    return _new(spec.type, _header(stamp_ns, spec.frame), 1, count, fields, False, step, step * count, data, True)


def _laser_scan(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    ranges = rng.uniform(0.0, 12.0, 180).astype(np.float32)  # some beyond range_max
    limits = [-np.pi / 2, np.pi / 2, np.pi / 180, 0.0, 0.1, 0.05, 10.0]
    return _new(spec.type, _header(stamp_ns, spec.frame), *limits, ranges, rng.uniform(size=180).astype(np.float32))


def _range(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return _new(spec.type, _header(stamp_ns, spec.frame), 0, 0.1, 0.05, 4.0, float(rng.uniform(0.1, 4.0)), 0.0)


def _pose_stamped(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return _new(spec.type, _header(stamp_ns, spec.frame), _pose(rng))


def _twist_stamped(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return _new(spec.type, _header(stamp_ns, spec.frame), _twist(rng))


def _wrench_stamped(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    wrench = _new("geometry_msgs/msg/Wrench", _vector3(rng), _vector3(rng))
    return _new(spec.type, _header(stamp_ns, spec.frame), wrench)


def _odometry(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    pose = _new("geometry_msgs/msg/PoseWithCovariance", _pose(rng), np.zeros(36))
    twist = _new("geometry_msgs/msg/TwistWithCovariance", _twist(rng), np.zeros(36))
    return _new(spec.type, _header(stamp_ns, spec.frame), "base_link", pose, twist)


def _array(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:  # noqa: ARG001 - no header
    return _multi_array(spec.type, rng.normal(size=len(spec.names)))


def _string(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:  # noqa: ARG001 - no header
    return _new(spec.type, f"move object {rng.integers(100)} to the left")


def _multi_array(type_name: str, values: Any) -> Any:
    dtype = np.float32 if "32" in type_name else np.float64
    return _new(type_name, _new("std_msgs/msg/MultiArrayLayout", [], 0), np.asarray(values, dtype=dtype))


SAMPLES: dict[str, Callable[[InputSpec, int, Rng], Any]] = {
    "sensor_msgs/msg/Image": _image,
    "sensor_msgs/msg/CompressedImage": _compressed_image,
    "sensor_msgs/msg/JointState": _joint_state,
    "sensor_msgs/msg/Imu": _imu,
    "sensor_msgs/msg/PointCloud2": _point_cloud,
    "sensor_msgs/msg/LaserScan": _laser_scan,
    "sensor_msgs/msg/Range": _range,
    "geometry_msgs/msg/PoseStamped": _pose_stamped,
    "geometry_msgs/msg/TwistStamped": _twist_stamped,
    "geometry_msgs/msg/WrenchStamped": _wrench_stamped,
    "nav_msgs/msg/Odometry": _odometry,
    "std_msgs/msg/Float32MultiArray": _array,
    "std_msgs/msg/Float64MultiArray": _array,
    "std_msgs/msg/String": _string,
}
"""Input type → maker of its example."""


def _end_effector_action(action: ActionSpec, stamp_ns: int, period_ns: int, rng: Rng) -> Any:
    period = _new("builtin_interfaces/msg/Duration", period_ns // NANOSECONDS, period_ns % NANOSECONDS)
    motion = [REPRESENTATIONS[action.representation], _vector3(rng), _vector3(rng), float(rng.uniform(-1, 1))]
    header = _header(stamp_ns, action.frame)
    return _new(action.record.type, header, *motion, period, _time(stamp_ns), 0, 0)


def _joint_action(action: ActionSpec, stamp_ns: int, period_ns: int, rng: Rng) -> Any:  # noqa: ARG001 - no period
    empty = np.empty(0)
    return _new(
        action.record.type, _header(stamp_ns, ""), list(action.names), rng.normal(size=len(action.names)), empty, empty
    )


ACTION_SAMPLES: dict[str, Callable[[ActionSpec, int, int, Rng], Any]] = {
    "vla_ros_msgs/msg/EndEffectorAction": _end_effector_action,
    "geometry_msgs/msg/TwistStamped": lambda a, t, _, rng: _new(a.record.type, _header(t, a.frame), _twist(rng)),
    "geometry_msgs/msg/PoseStamped": lambda a, t, _, rng: _new(a.record.type, _header(t, a.frame), _pose(rng)),
    "sensor_msgs/msg/JointState": _joint_action,
    "std_msgs/msg/Float64MultiArray": lambda a, _t, _p, rng: _multi_array(a.record.type, rng.normal(size=len(a.names))),
}
"""Type of a record topic → maker of its example."""
