"""ROS 2 nodes: lifecycle, callbacks, timers. No maths."""
