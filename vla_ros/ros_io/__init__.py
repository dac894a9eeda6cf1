"""Bags: reading, writing, recovery and recording. No ROS import."""
