"""Options of π₀, checked when built."""

from dataclasses import dataclass

from vla_ros.policies.multimodal import MultimodalConfig


@dataclass(frozen=True, kw_only=True)
class Pi0Config(MultimodalConfig):
    """Options of `Pi0Policy`: all of `MultimodalConfig`'s. The defaults are the published sizes."""

    action_horizon: int = 50
