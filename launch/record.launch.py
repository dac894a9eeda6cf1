"""The recorder: one bag per episode, with everything that the robot's contract names."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Start the recorder; every argument is one of its parameters."""
    share = FindPackageShare("vla_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument("contract", description="The robot's contract, a YAML file"),
            DeclareLaunchArgument("output", default_value="bags", description="Folder for the bags"),
            DeclareLaunchArgument(
                "auto_episodes",
                default_value="false",
                description="Begin and end bags by episode_status_topic; false by the services",
            ),
            DeclareLaunchArgument(
                "discard_failures",
                default_value="false",
                description="With auto_episodes: delete the bags of episodes that did not succeed",
            ),
            DeclareLaunchArgument(
                "episode_status_topic",
                default_value="/sim/episode_status",
                description="EpisodeStatus of a simulated robot; empty without one",
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="Follow /clock instead of the system clock"
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch", "transport.launch.py"]))
            ),
            Node(
                package="vla_ros",
                executable="bag_recorder_node",
                name="bag_recorder",
                output="screen",
                parameters=[
                    {
                        "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                        "output": ParameterValue(LaunchConfiguration("output"), value_type=str),
                        "auto_episodes": ParameterValue(LaunchConfiguration("auto_episodes"), value_type=bool),
                        "discard_failures": ParameterValue(LaunchConfiguration("discard_failures"), value_type=bool),
                        "episode_status_topic": ParameterValue(
                            LaunchConfiguration("episode_status_topic"), value_type=str
                        ),
                        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
                    }
                ],
            ),
        ]
    )
