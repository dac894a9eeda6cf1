"""Transport for large messages: every node of the including launch file gets the Fast DDS profile of this package.

Without it camera images on best-effort topics may not arrive at all; config/fastdds.xml says why.
"""

import os

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

# Fast DDS 2 knows only the old name, and Fast DDS 3 warns when it reads that.
VARIABLE = (
    "FASTRTPS_DEFAULT_PROFILES_FILE"
    if os.environ.get("ROS_DISTRO") in {"humble", "iron", "jazzy"}
    else "FASTDDS_DEFAULT_PROFILES_FILE"
)


def generate_launch_description() -> LaunchDescription:
    """Set the profile for everything that starts after this."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "fastdds_profile",
                default_value=PathJoinSubstitution([FindPackageShare("vla_ros"), "config", "fastdds.xml"]),
                description="Fast DDS profile; other middleware ignores it",
            ),
            SetEnvironmentVariable(VARIABLE, LaunchConfiguration("fastdds_profile")),
        ]
    )
