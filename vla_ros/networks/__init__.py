"""Parts that architectures share: backbones, pooling, heads. Tensors in, tensors out; no feature keys, no losses."""

from vla_ros.networks.attention.context import (
    Context,
    EncodedContext,
    block_causal_mask,
    block_starts,
    continue_context,
    encode_context,
    hide,
    token_positions,
)
from vla_ros.networks.attention.embeddings import (
    FlowTokens,
    TextTokens,
    sine_positions,
    sine_positions_2d,
    time_embedding,
)
from vla_ros.networks.attention.joint_attention import (
    AttentionOptions,
    Expert,
    ExpertOptions,
    KeysValues,
    Segment,
    apply_rotary,
    joint_attention,
    joint_keys_values,
    rotary_angles,
)
from vla_ros.networks.attention.transformer import TransformerDecoder, TransformerEncoder
from vla_ros.networks.heads.mlp import build_head, mlp
from vla_ros.networks.vision.backbone_weights import load_backbone_weights
from vla_ros.networks.vision.backbones import Backbone, ConvStack, backbone_names, build_backbone, register_backbone
from vla_ros.networks.vision.image_encoder import ImageEncoder
from vla_ros.networks.vision.image_tokens import CameraTokens, PatchTokens, VisionOptions, VisionTransformer
from vla_ros.networks.vision.pooling import AveragePool, SpatialSoftmax, build_pooling
from vla_ros.registry import POOLINGS

__all__ = [
    "POOLINGS",
    "AttentionOptions",
    "AveragePool",
    "Backbone",
    "CameraTokens",
    "Context",
    "ConvStack",
    "EncodedContext",
    "Expert",
    "ExpertOptions",
    "FlowTokens",
    "ImageEncoder",
    "KeysValues",
    "PatchTokens",
    "Segment",
    "SpatialSoftmax",
    "TextTokens",
    "TransformerDecoder",
    "TransformerEncoder",
    "VisionOptions",
    "VisionTransformer",
    "apply_rotary",
    "backbone_names",
    "block_causal_mask",
    "block_starts",
    "build_backbone",
    "build_head",
    "build_pooling",
    "continue_context",
    "encode_context",
    "hide",
    "joint_attention",
    "joint_keys_values",
    "load_backbone_weights",
    "mlp",
    "register_backbone",
    "rotary_angles",
    "sine_positions",
    "sine_positions_2d",
    "time_embedding",
    "token_positions",
]
