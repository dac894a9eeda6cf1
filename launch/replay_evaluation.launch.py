"""A bag through a policy's runtime, under the bag's clock: errors as JSON and a plot. Needs no robot."""

import sys

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration


def generate_launch_description() -> LaunchDescription:
    """Run ``vla_ros replay`` once; launch ends with it."""
    names = ("bag", "checkpoint", "contract", "output", "latency")
    options = [part for name in names for part in (f"--{name}", LaunchConfiguration(name))]
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="Bag of one episode, a folder"),
            DeclareLaunchArgument("checkpoint", description="Checkpoint folder"),
            DeclareLaunchArgument(
                "contract",
                default_value="",
                description="The robot's contract; empty takes the bag's own, else the checkpoint's",
            ),
            DeclareLaunchArgument("output", default_value="out/replay", description="Folder for JSON and plot"),
            DeclareLaunchArgument(
                "latency", default_value="0.0", description="From an observation to its actions, in s"
            ),
            ExecuteProcess(
                cmd=[sys.executable, "-m", "vla_ros.cli", "replay", *options], name="replay", output="screen"
            ),
        ]
    )
