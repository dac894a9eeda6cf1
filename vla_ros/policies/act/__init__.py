"""Action chunking with a transformer: the published CVAE, and the walkthrough's variant. README.md draws both."""

from vla_ros.policies.act.config import ActConfig, ActWalkthroughConfig
from vla_ros.policies.act.policy import ActPolicy, ActWalkthroughPolicy

__all__ = ["ActConfig", "ActPolicy", "ActWalkthroughConfig", "ActWalkthroughPolicy"]
