"""The processes of a measurement, each started with ``python -m bench.children.<name>``. ROS is imported here alone."""
