"""Flow matching and autoregressive action tokens side by side on one context. README.md draws it."""

from vla_ros.policies.flow_ar.config import FlowArConfig
from vla_ros.policies.flow_ar.policy import FlowArPolicy

__all__ = ["FlowArConfig", "FlowArPolicy"]
