"""RT-1: images conditioned on the instruction, few learned tokens per frame, a causal transformer, binned actions.

README.md draws it.
"""

from vla_ros.policies.rt1.config import Rt1Config
from vla_ros.policies.rt1.policy import Rt1Policy

__all__ = ["Rt1Config", "Rt1Policy"]
