"""Episodes driven from start to end: in this process, over ROS, by an expert; and the processes that they need."""
