"""Run learned policies on ROS 2 robots, and train them from the robot's own bags."""

__version__ = "0.1.0"
