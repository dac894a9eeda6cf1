"""π₀: a vision-language model and an action expert in one attention, actions by flow matching. README.md draws it."""

from vla_ros.policies.pi0.policy import Pi0Config, Pi0Policy

__all__ = ["Pi0Config", "Pi0Policy"]
