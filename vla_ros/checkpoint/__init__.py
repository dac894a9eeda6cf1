"""A checkpoint: one folder with everything that a policy needs to run, and its fit to a robot. No training, no ROS."""

from vla_ros.checkpoint.checkpoint import Checkpoint, contract_differences
from vla_ros.checkpoint.load import load_checkpoint, read_inputs
from vla_ros.checkpoint.save import save_checkpoint

__all__ = ["Checkpoint", "contract_differences", "load_checkpoint", "read_inputs", "save_checkpoint"]
