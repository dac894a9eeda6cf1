"""Recipe → checkpoint. Knows datasets, processors and the policy interface; no architecture, no ROS."""

from vla_ros.training.history import EpochReport
from vla_ros.training.progress import QuietProgress, RichProgress, TrainingProgress, default_progress
from vla_ros.training.recipe import Recipe, load_recipe
from vla_ros.training.run import train
from vla_ros.training.trainer import Trainer, TrainingError
from vla_ros.training.validation import Windows

__all__ = [
    "EpochReport",
    "QuietProgress",
    "Recipe",
    "RichProgress",
    "Trainer",
    "TrainingError",
    "TrainingProgress",
    "Windows",
    "default_progress",
    "load_recipe",
    "train",
]
