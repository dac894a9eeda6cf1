"""What every test may use: settings, and contracts with an input of each type."""

import os
from collections.abc import Callable
from typing import Any

import pytest

# Set before torch is imported: with small tensors, threads that wait for a busy core cost far more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

from vla_ros.contract import RobotContract, parse_contract

settings.register_profile("untimed", deadline=None)  # a deadline would test the machine
settings.load_profile("untimed")

INPUTS: dict[str, dict[str, Any]] = {
    "sensor_msgs/msg/Image": {"key": "observation.images.front", "image": {"height": 24, "width": 32}},
    "sensor_msgs/msg/CompressedImage": {"key": "observation.images.wrist", "image": {"height": 24, "width": 32}},
    "sensor_msgs/msg/JointState": {"joints": ["a", "b", "c"], "field": "velocity"},
    "sensor_msgs/msg/Imu": {"key": "observation.imu.wrist", "window": {"samples": 3, "period_s": 0.01}},
    "sensor_msgs/msg/PointCloud2": {"key": "observation.points.lidar", "points": {"count": 20, "fields": ["z", "x"]}},
    "sensor_msgs/msg/LaserScan": {"key": "observation.scan.front", "points": {"count": 30}},
    "sensor_msgs/msg/Range": {},
    "geometry_msgs/msg/PoseStamped": {"frame": "base_link"},
    "tf2_msgs/msg/TFMessage": {"transform": {"parent": "base_link", "child": "tool0"}},
    "geometry_msgs/msg/Twist": {"alignment": {"timeline": "receive"}},
    "geometry_msgs/msg/Vector3Stamped": {},
    "geometry_msgs/msg/PointStamped": {},
    "geometry_msgs/msg/PoseWithCovarianceStamped": {"frame": "map"},
    "std_msgs/msg/Float32": {"alignment": {"timeline": "receive"}},
    "std_msgs/msg/Float64": {"alignment": {"timeline": "receive"}},
    "geometry_msgs/msg/TwistStamped": {"fields": ["twist.angular.z", "twist.linear.x"], "names": ["turn", "ahead"]},
    "geometry_msgs/msg/WrenchStamped": {"key": "observation.wrench.wrist"},
    "nav_msgs/msg/Path": {"frame": "map", "points": {"count": 8}},
    "radar_msgs/msg/RadarScan": {"key": "observation.radar.front", "points": {"count": 40}},
    "radar_msgs/msg/RadarTracks": {"key": "observation.radar.tracks", "points": {"count": 4}},
    "nav_msgs/msg/Odometry": {"fields": ["pose.pose.position.x", "twist.twist.linear.x"]},
    "std_msgs/msg/Float32MultiArray": {"names": ["p", "q"], "alignment": {"timeline": "receive"}},
    "std_msgs/msg/Float64MultiArray": {"names": ["p", "q"], "alignment": {"timeline": "receive"}},
}

ACTION = {
    "representation": "displacement",
    "names": ["dx", "dy", "dz", "rx", "ry", "rz", "gripper"],
    "units": ["m", "m", "m", "rad", "rad", "rad", "1"],
    "rotation": "rotation_vector",
    "gripper": {"name": "gripper", "open": -1.0, "closed": 1.0},
    "record": {"topic": "/demonstration", "type": "vla_ros_msgs/msg/EndEffectorAction", "max_age_s": 0.1},
    "sinks": [{"topic": "/command", "type": "vla_ros_msgs/msg/EndEffectorAction"}],
}

Make = Callable[..., RobotContract]


@pytest.fixture
def make_contract() -> Make:
    """Make a contract with one input per type given, and changes to its action."""

    def make(*types: str, action: dict[str, Any] | None = None, **changes: Any) -> RobotContract:
        inputs = [
            {"key": f"observation.{name.rsplit('/')[-1].lower()}", "topic": f"/{name.rsplit('/')[-1]}", "type": name}
            | {"max_age_s": 0.2}
            | INPUTS[name]
            | changes
            for name in (types or ["sensor_msgs/msg/JointState"])
        ]
        content = {
            "robot_type": "test",
            "fps": 20,
            "max_wait_s": 0.04,
            "inputs": inputs,
            "action": ACTION | (action or {}),
        }
        return parse_contract(content, "test.yaml")

    return make
