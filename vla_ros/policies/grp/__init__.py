"""GRP: image patches, a goal in words or as a picture, and proprioception in one transformer. README.md draws it."""

from vla_ros.policies.grp.config import GrpConfig
from vla_ros.policies.grp.policy import GrpPolicy

__all__ = ["GrpConfig", "GrpPolicy"]
