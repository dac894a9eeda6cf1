"""Tokens of one encoder → fewer or wider tokens."""

from vla_ros.networks.projectors.projectors import (
    AttentionPoolingProjector,
    MLPProjector,
    PerceiverProjector,
    PixelShuffleProjector,
    Projector,
    build_projector,
)

__all__ = [
    "AttentionPoolingProjector",
    "MLPProjector",
    "PerceiverProjector",
    "PixelShuffleProjector",
    "Projector",
    "build_projector",
]
