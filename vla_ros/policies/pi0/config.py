"""Options of π₀, checked when built."""

from dataclasses import dataclass
from typing import Annotated

from vla_ros.policies.base import MOST_STEPS
from vla_ros.policies.common.multimodal import MultimodalConfig
from vla_ros.schema import About


@dataclass(frozen=True, kw_only=True)
class Pi0Config(MultimodalConfig):
    """Options of `Pi0Policy`: all of `MultimodalConfig`'s. The defaults are the published sizes."""

    action_horizon: Annotated[int, About("H, steps predicted.", at_least=1, at_most=MOST_STEPS)] = 50
