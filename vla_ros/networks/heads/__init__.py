"""Features → action numbers, directly or from noise."""

from vla_ros.networks.heads.action_head import ActionHeadBase, HeadLoss, build_action_head
from vla_ros.networks.heads.autoregressive_head import TransformerActionHead
from vla_ros.networks.heads.denoising_heads import DiffusionActionHead, FlowMatchingActionHead
from vla_ros.networks.heads.mlp_heads import GaussianMLPActionHead, MLPActionHead

__all__ = [
    "ActionHeadBase",
    "DiffusionActionHead",
    "FlowMatchingActionHead",
    "GaussianMLPActionHead",
    "HeadLoss",
    "MLPActionHead",
    "TransformerActionHead",
    "build_action_head",
]
