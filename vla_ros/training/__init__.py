"""Recipe → checkpoint. Knows datasets, processors and the policy interface; no architecture, no ROS.

`Trainer` trains any `Learner`; `PolicyLearner` makes one of a policy.
"""

from vla_ros.training.history import EpochReport
from vla_ros.training.learner import Learner, Measured, Windows
from vla_ros.training.policy_learner import PolicyLearner
from vla_ros.training.progress import QuietProgress, RichProgress, TrainingProgress, default_progress
from vla_ros.training.recipe import Recipe, load_recipe
from vla_ros.training.run import train
from vla_ros.training.trainer import Trainer, TrainingError

__all__ = [
    "EpochReport",
    "Learner",
    "Measured",
    "PolicyLearner",
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
