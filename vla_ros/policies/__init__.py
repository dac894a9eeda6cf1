"""Architectures: the interface, the registry, and one folder each. No rclpy, no datasets, no files."""

from vla_ros.policies.base import (
    Batch,
    LossOutput,
    Policy,
    PolicyConfig,
    PolicyOutput,
    PolicyState,
    image_shape,
)
from vla_ros.policies.old_names import current_policy
from vla_ros.policies.registry import build_policy, options_of, policy_class, policy_config, policy_names

__all__ = [
    "Batch",
    "LossOutput",
    "Policy",
    "PolicyConfig",
    "PolicyOutput",
    "PolicyState",
    "build_policy",
    "current_policy",
    "image_shape",
    "options_of",
    "policy_class",
    "policy_config",
    "policy_names",
]
