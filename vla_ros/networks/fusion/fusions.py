"""Fusion of several modalities' tokens: each reads all others, or in stages. Names of modalities are the caller's.

Axis legend: B batch, N tokens, D width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.fusion.cross_attention import CrossAttentionBlock
from vla_ros.networks.sensors import SensorTokens


def joined(sensors: Sequence[SensorTokens]) -> SensorTokens:
    """Return the tokens of several modalities one after the other."""
    return SensorTokens(
        torch.cat([said.tokens_BND for said in sensors], dim=1), torch.cat([said.valid_BN for said in sensors], dim=1)
    )


class Concatenation(nn.Module):
    """The baseline: tokens side by side, none of which has read another.

    Args:
        names: Of the modalities, in order.
        width: D.
        n_heads, n_layers: As of the other fusions; nothing here has any.
    """

    def __init__(self, names: Sequence[str], width: int, n_heads: int = 8, n_layers: int = 2) -> None:  # noqa: ARG002
        super().__init__()
        self.names, self.width = tuple(names), width

    def forward(self, sensors: Mapping[str, SensorTokens]) -> SensorTokens:
        """Return all tokens in the order of `names`, float [B, N, D], and their validity."""
        return joined([sensors[name] for name in self.names])


class CrossModalFusion(nn.Module):
    """Each modality's tokens attend to the tokens of all other modalities, residual, in every layer.

    Args:
        names: Of the modalities, two or more, in order.
        width: D.
        n_heads: Heads.
        n_layers: Layers.

    Raises:
        ConfigError: There is nothing to fuse, or the heads do not divide the width.
    """

    def __init__(self, names: Sequence[str], width: int, n_heads: int = 8, n_layers: int = 2) -> None:
        super().__init__()
        if len(names) < 2:
            raise ConfigError(f"fusion 'cross_modal' needs at least two modalities, got {', '.join(names) or 'none'}.")
        self.names, self.width = tuple(names), width
        # layer by layer, in each a block for every modality
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, n_heads) for _ in range(n_layers * len(names)))

    def forward(self, sensors: Mapping[str, SensorTokens]) -> SensorTokens:
        """Return all updated tokens in the order of `names`, float [B, N, D], and their validity."""
        said = [sensors[name] for name in self.names]
        for first in range(0, len(self.blocks), len(self.names)):
            layer = self.blocks[first : first + len(self.names)]
            said = [  # all read what was said before this layer
                _update(block, own, joined(said[:index] + said[index + 1 :]))
                for index, (block, own) in enumerate(zip(layer, said, strict=True))
            ]
        return joined(said)


class HierarchicalFusion(nn.Module):
    """Stages: LiDAR and radar become the scene, then the scene and vision become one (the modalities are the caller's).

    Args:
        names: Of the modalities, in order; those of no stage join the last.
        width: D.
        n_heads: Heads.
        n_layers: Layers of each stage.
        scene: Modalities of the first stage.

    Raises:
        ConfigError: The scene holds what is no modality, all of them, or fewer than two.
    """

    def __init__(
        self, names: Sequence[str], width: int, n_heads: int = 8, n_layers: int = 2, scene: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if unknown := [name for name in scene if name not in names]:
            raise ConfigError(f"fusion 'hierarchical': scene names {', '.join(unknown)}; known: {', '.join(names)}.")
        rest = [name for name in names if name not in scene]
        if len(scene) < 2 or not rest:
            raise ConfigError(
                "fusion 'hierarchical': scene needs at least two modalities, and one must be left for the second "
                f"stage; got scene {', '.join(scene) or '(none)'} of {', '.join(names)}."
            )
        self.names, self.width = tuple(names), width
        self.scene, self.rest = tuple(scene), tuple(rest)
        self.first = CrossModalFusion(self.scene, width, n_heads, n_layers)
        self.second = CrossModalFusion(("scene", *self.rest), width, n_heads, n_layers)

    def forward(self, sensors: Mapping[str, SensorTokens]) -> SensorTokens:
        """Return the tokens of the scene, then of the others, float [B, N, D], and their validity."""
        scene = self.first(sensors)
        fused: SensorTokens = self.second({"scene": scene, **{name: sensors[name] for name in self.rest}})
        return fused


def _update(block: nn.Module, own: SensorTokens, others: SensorTokens) -> SensorTokens:
    updated_BND = block(own.tokens_BND, others.tokens_BND, others.valid_BN)
    return SensorTokens(torch.where(own.valid_BN[..., None], updated_BND, 0.0), own.valid_BN)
