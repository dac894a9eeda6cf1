"""Several cameras, LiDAR, radar and IMU, fused; README.md draws it."""

from vla_ros.policies.multi_sensor.config import MultiSensorConfig
from vla_ros.policies.multi_sensor.model import MultiSensorVLA
from vla_ros.policies.multi_sensor.policy import MultiSensorPolicy

__all__ = ["MultiSensorConfig", "MultiSensorPolicy", "MultiSensorVLA"]
