"""A checkpoint: one folder with everything that a policy needs to run, and its fit to a robot. No training, no ROS."""

from vla_ros.checkpoint.checkpoint import Checkpoint
from vla_ros.checkpoint.load import load_checkpoint, read_inputs
from vla_ros.checkpoint.robots import robot_files, select_robot
from vla_ros.checkpoint.save import replace_extra_file, replacing, save_checkpoint, tidy
from vla_ros.checkpoint.seal import seal_checkpoint

__all__ = [
    "Checkpoint",
    "load_checkpoint",
    "read_inputs",
    "replace_extra_file",
    "replacing",
    "robot_files",
    "save_checkpoint",
    "seal_checkpoint",
    "select_robot",
    "tidy",
]
