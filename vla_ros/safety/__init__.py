"""What stands between a policy and the robot: bounds, workspace, stop latch. No ROS, no clock, no thread."""

from vla_ros.safety.filter import FilterResult, SafetyFilter

__all__ = ["FilterResult", "SafetyFilter"]
