"""Visuomotor behaviour cloning: one encoder per camera, proprioception, an MLP. README.md draws it."""

from vla_ros.policies.bc.config import BcConfig
from vla_ros.policies.bc.policy import BcPolicy

__all__ = ["BcConfig", "BcPolicy"]
