"""The synthetic robot's contract: which of its sensors a case has, at which rates and sizes. No ROS."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

CAMERAS = ("/camera/front/image_raw", "/camera/wrist/image_raw")
JOINTS, IMU, LIDAR, COMMAND = "/joint_states", "/imu/data", "/lidar/points", "/command"

_IMAGE = {"type": "sensor_msgs/msg/Image", "max_age_s": 0.5}
_INPUTS: dict[str, dict[str, Any]] = {
    CAMERAS[0]: {"key": "observation.images.front", **_IMAGE},
    CAMERAS[1]: {"key": "observation.images.wrist", **_IMAGE},
    JOINTS: {
        "key": "observation.state",
        "type": "sensor_msgs/msg/JointState",
        "joints": [f"joint_{index}" for index in range(7)],
        "max_age_s": 0.5,
    },
    IMU: {
        "key": "observation.imu.wrist",
        "type": "sensor_msgs/msg/Imu",
        "window": {"samples": 8, "period_s": 0.0025},
        "max_age_s": 0.5,
    },
    LIDAR: {
        "key": "observation.points.lidar",
        "type": "sensor_msgs/msg/PointCloud2",
        "points": {"count": 1024, "fields": ["x", "y", "z"]},
        "max_age_s": 0.5,
    },
}


def write_contract(
    path: Path,
    topics: Collection[str],
    *,
    fps: int = 20,
    control_rate_hz: int = 100,
    image_size: tuple[int, int] = (224, 224),
) -> Path:
    """Write a contract of these sensors.

    Args:
        path: The file.
        topics: Of `CAMERAS`, `JOINTS`, `IMU` and `LIDAR`.
        fps: Observations per second.
        control_rate_hz: Commands per second.
        image_size: (height, width) of the images that the policy sees; the camera's own are 480×640.

    Returns:
        The file.
    """
    inputs = []
    for topic in topics:
        entry = {"topic": topic, **_INPUTS[topic]}
        if topic in CAMERAS:
            entry["image"] = {"height": image_size[0], "width": image_size[1]}
        inputs.append(entry)
    content = {
        "robot_type": "bench",
        "fps": fps,
        "control_rate_hz": control_rate_hz,
        "inputs": inputs,
        "action": {
            "representation": "displacement",
            "names": ["dx", "dy", "dz", "gripper"],
            "units": ["m", "m", "m", "1"],
            "gripper": {"name": "gripper", "open": -1.0, "closed": 1.0},
            "record": {"topic": COMMAND, "type": "vla_ros_msgs/msg/EndEffectorAction", "max_age_s": 0.2},
            # A deep queue: what is counted is what the node published, not what transport kept
            "sinks": [{"topic": COMMAND, "type": "vla_ros_msgs/msg/EndEffectorAction", "qos": {"depth": 500}}],
        },
        "instruction": {"topic": "/instruction", "default": "measure"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
