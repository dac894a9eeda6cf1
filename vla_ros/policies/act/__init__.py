"""Action chunking with a transformer: the walkthrough's variant and the published CVAE. README.md draws both."""

from vla_ros.policies.act.config import ActConfig
from vla_ros.policies.act.policy import ActPolicy

__all__ = ["ActConfig", "ActPolicy"]
