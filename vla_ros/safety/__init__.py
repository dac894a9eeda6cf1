"""What stands between a policy and the robot: bounds, workspace, stop latch. No ROS, no clock, no thread."""

from vla_ros.safety.filter import FilterResult, SafetyFilter
from vla_ros.safety.measured import Measured, measurement_from
from vla_ros.safety.reasons import DROPPING, REASONS
from vla_ros.safety.stop_latch import StopLatch

__all__ = ["DROPPING", "REASONS", "FilterResult", "Measured", "SafetyFilter", "StopLatch", "measurement_from"]
