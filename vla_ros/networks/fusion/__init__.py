"""Fusion of several sensors' tokens, and what stands in for a sensor that is absent. Tensors in, tensors out."""

from vla_ros.networks.fusion.absent import AbsentTokens, drop_modalities
from vla_ros.networks.fusion.bev import CameraLift, CameraModel
from vla_ros.networks.fusion.cross_attention import CrossAttention, CrossAttentionBlock
from vla_ros.networks.fusion.fusions import Concatenation, CrossModalFusion, HierarchicalFusion, joined

__all__ = [
    "AbsentTokens",
    "CameraLift",
    "CameraModel",
    "Concatenation",
    "CrossAttention",
    "CrossAttentionBlock",
    "CrossModalFusion",
    "HierarchicalFusion",
    "drop_modalities",
    "joined",
]
