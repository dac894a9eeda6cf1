"""Measuring policies: bag replay and rollouts, their metrics, reports and pictures. No ROS here."""
