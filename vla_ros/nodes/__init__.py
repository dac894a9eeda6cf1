"""ROS 2 nodes, and the processes that run them: lifecycle, callbacks, timers, orchestration. No maths."""
