"""The simulated robot and the policy node, each a process of its own: the loop that a real robot would close."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Start both; the policy follows the simulated clock."""
    share = FindPackageShare("vla_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "robot",
                default_value="metaworld_sawyer",
                description="Which shipped robot: the name of its files in config/robots and config/sim",
            ),
            DeclareLaunchArgument(
                "task",
                default_value="",
                description="Task by name; empty for the simulator's own, of MetaWorld push-v3",
            ),
            DeclareLaunchArgument("seed", default_value="0", description="Start state of the first episode"),
            DeclareLaunchArgument(
                "checkpoint",
                default_value=PathJoinSubstitution([share, "models", "metaworld_push_bc"]),
                description="Checkpoint folder",
            ),
            DeclareLaunchArgument(
                "contract",
                default_value=[share, "/config/robots/", LaunchConfiguration("robot"), ".yaml"],
                description="The robot's contract, a YAML file",
            ),
            DeclareLaunchArgument(
                "sim_config",
                default_value=[share, "/config/sim/", LaunchConfiguration("robot"), ".yaml"],
                description="The simulator's file: which simulator it is, and what lies behind each input",
            ),
            DeclareLaunchArgument(
                "enable_control", default_value="true", description="Publish commands; false is a dry run"
            ),
            DeclareLaunchArgument(
                "lock_step",
                default_value="false",
                description="Robot and policy wait for each other at every tick; hides latency",
            ),
            DeclareLaunchArgument(
                "real_time_factor", default_value="1.0", description="Simulated seconds in a second of wall time"
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch", "policy.launch.py"])),
                launch_arguments={
                    "contract": LaunchConfiguration("contract"),
                    "checkpoint": LaunchConfiguration("checkpoint"),
                    "enable_control": LaunchConfiguration("enable_control"),
                    "lock_step": LaunchConfiguration("lock_step"),
                    "use_sim_time": "true",
                    "episode_status_topic": "/sim/episode_status",
                }.items(),
            ),
            Node(
                package="vla_ros",
                executable="sim_robot_node",
                name="sim_robot",
                output="screen",
                parameters=[
                    {
                        "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                        "sim_config": ParameterValue(LaunchConfiguration("sim_config"), value_type=str),
                        "task": ParameterValue(LaunchConfiguration("task"), value_type=str),
                        "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
                        "lock_step": ParameterValue(LaunchConfiguration("lock_step"), value_type=bool),
                        "real_time_factor": ParameterValue(LaunchConfiguration("real_time_factor"), value_type=float),
                    }
                ],
            ),
        ]
    )
