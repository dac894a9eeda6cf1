"""The one list of ROS packages. pyproject.toml repeats it for its two tools, and a test compares them."""

ROS_PACKAGES = (
    "ament_index_python",
    "builtin_interfaces",
    "control_msgs",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "nav_msgs",
    "radar_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "rosidl_runtime_py",
    "rpyutils",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "trajectory_msgs",
    "visualization_msgs",
    "vla_ros_msgs",
)
"""Python packages that a ROS installation, or its wheels, bring."""
