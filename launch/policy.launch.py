"""The policy node on a robot: a checkpoint reads the contract's topics and commands its sinks."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Start the policy node; every argument is one of its parameters."""
    share = FindPackageShare("vla_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument("contract", description="The robot's contract, a YAML file"),
            DeclareLaunchArgument("checkpoint", description="Checkpoint folder, trained under that contract"),
            DeclareLaunchArgument(
                "enable_control",
                default_value="false",
                description="Publish commands; false is a dry run that does everything else",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                description="Configure and activate at once; false waits for a lifecycle manager",
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="Follow /clock instead of the system clock"
            ),
            DeclareLaunchArgument(
                "lock_step",
                default_value="false",
                description="Answer each tick of a simulated robot that waits; hides latency",
            ),
            DeclareLaunchArgument(
                "episode_status_topic",
                default_value="",
                description="Where a simulated robot says that an episode begins; empty on a real one",
            ),
            DeclareLaunchArgument(
                "parameters_file",
                default_value=PathJoinSubstitution([share, "config", "policy_node.yaml"]),
                description="All other parameters of the node",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch", "transport.launch.py"]))
            ),
            LifecycleNode(
                package="vla_ros",
                executable="policy_node",
                name="policy_node",
                namespace="",
                output="screen",
                parameters=[
                    LaunchConfiguration("parameters_file"),
                    {
                        "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                        "checkpoint": ParameterValue(LaunchConfiguration("checkpoint"), value_type=str),
                        "enable_control": ParameterValue(LaunchConfiguration("enable_control"), value_type=bool),
                        "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
                        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
                        "lock_step": ParameterValue(LaunchConfiguration("lock_step"), value_type=bool),
                        "episode_status_topic": ParameterValue(
                            LaunchConfiguration("episode_status_topic"), value_type=str
                        ),
                    },
                ],
            ),
        ]
    )
