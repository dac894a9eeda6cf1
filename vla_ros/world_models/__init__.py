"""World models: what comes next, given what is done. RSSM, planners, and a policy that plans. No datasets, no ROS."""

from vla_ros.world_models.config import WorldModelConfig
from vla_ros.world_models.imagination import open_loop
from vla_ros.world_models.model import Sequences, WorldModel
from vla_ros.world_models.planners import CrossEntropyMethod, RandomShooting
from vla_ros.world_models.policy import IS_LAST, REWARD, WorldModelPolicy
from vla_ros.world_models.rssm import Latent, Rssm

__all__ = [
    "IS_LAST",
    "REWARD",
    "CrossEntropyMethod",
    "Latent",
    "RandomShooting",
    "Rssm",
    "Sequences",
    "WorldModel",
    "WorldModelConfig",
    "WorldModelPolicy",
    "open_loop",
]
