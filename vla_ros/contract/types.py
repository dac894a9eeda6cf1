"""Which ROS types a contract may name, and what each of them can carry. Names only; no ROS here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class InputType:
    """What a message type offers.

    Attributes:
        form: Decides which form section the contract needs and which decoder reads it.
        all_fields: Fields that may be selected, as dotted paths; empty where the form decides.
        fields: The fields selected when the contract names none.
        has_header: Whether the message carries a std_msgs/Header as its first field.
    """

    form: Literal["image", "points", "window", "joints", "fields", "array", "text"]
    all_fields: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    has_header: bool = True


def _xyz(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{axis}" for axis in "xyz")


def _xyzw(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{axis}" for axis in "xyzw")


_POSE = _xyz("pose.position") + _xyzw("pose.orientation")
_TWIST = _xyz("twist.linear") + _xyz("twist.angular")
_WRENCH = _xyz("wrench.force") + _xyz("wrench.torque")
_ODOMETRY = tuple(f"{outer}.{name}" for outer, names in (("pose", _POSE), ("twist", _TWIST)) for name in names)
_IMU = _xyz("angular_velocity") + _xyz("linear_acceleration")

INPUT_TYPES: dict[str, InputType] = {
    "sensor_msgs/msg/Image": InputType("image"),
    "sensor_msgs/msg/CompressedImage": InputType("image"),
    "sensor_msgs/msg/JointState": InputType("joints"),
    "sensor_msgs/msg/Imu": InputType("window", _IMU + _xyzw("orientation"), _IMU),
    "sensor_msgs/msg/PointCloud2": InputType("points", fields=("x", "y", "z")),
    "sensor_msgs/msg/LaserScan": InputType("points", ("x", "y", "z", "range", "angle", "intensity"), ("x", "y")),
    "sensor_msgs/msg/Range": InputType("fields", ("range",), ("range",)),
    "geometry_msgs/msg/PoseStamped": InputType("fields", _POSE, _POSE),
    "geometry_msgs/msg/TwistStamped": InputType("fields", _TWIST, _TWIST),
    "geometry_msgs/msg/WrenchStamped": InputType("fields", _WRENCH, _WRENCH),
    "nav_msgs/msg/Odometry": InputType("fields", _ODOMETRY, _ODOMETRY),
    "std_msgs/msg/Float32MultiArray": InputType("array", has_header=False),
    "std_msgs/msg/Float64MultiArray": InputType("array", has_header=False),
    "std_msgs/msg/String": InputType("text", has_header=False),
}
"""Types of input streams."""

_CARTESIAN = ("displacement", "twist", "pose")

SINK_REPRESENTATIONS: dict[str, tuple[str, ...]] = {
    "vla_ros_msgs/msg/EndEffectorAction": _CARTESIAN,
    "vla_ros_msgs/msg/ActionChunk": (*_CARTESIAN, "joint_position"),
    "geometry_msgs/msg/TwistStamped": ("displacement", "twist"),
    "geometry_msgs/msg/PoseStamped": ("pose",),
    "trajectory_msgs/msg/JointTrajectory": ("joint_position",),
    "std_msgs/msg/Float64MultiArray": (*_CARTESIAN, "joint_position"),
}
"""Types of command topics, and the action representations that each can carry."""

ACTION_SOURCES: dict[str, tuple[str, ...]] = {
    "vla_ros_msgs/msg/EndEffectorAction": _CARTESIAN,
    "geometry_msgs/msg/TwistStamped": ("twist",),
    "geometry_msgs/msg/PoseStamped": ("pose",),
    "sensor_msgs/msg/JointState": ("joint_position",),
    "std_msgs/msg/Float64MultiArray": (*_CARTESIAN, "joint_position"),
}
"""Types that a recorded action may be read from, and the representations that each can carry."""
