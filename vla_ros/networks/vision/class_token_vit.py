"""Vision transformer with a class token, as ViT-B/16, as a backbone: torchvision's encoder, under torchvision's names.

"An Image is Worth 16x16 Words" (Dosovitskiy et al., 2020). `vision_transformer` is SigLIP's form, without class token.

torchvision's own `VisionTransformer` takes square images whose side is a multiple of the patch; here any size is taken,
and the stem may be other than one convolution.

Axis legend: N images, C channels, h, w pixels, P patches, D width.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.vision_transformer import Encoder

from vla_ros.data_types import ConfigError
from vla_ros.networks.vision.backbones import Backbone
from vla_ros.networks.vision.published_cnn import torchvision_weights

CLASSIFIER = "heads."
POSITIONS = "encoder.pos_embedding"
EARLIER = {
    "class_token_D": "class_token",
    "positions_PD": POSITIONS,
    "patches": "conv_proj",
    "final_norm": "encoder.ln",
    "attention_norm": "ln_1",
    "attention.output": "self_attention.out_proj",
    "mlp_norm": "ln_2",
    "mlp.inner": "mlp.0",
    "mlp.outer": "mlp.3",
}
"""Names of weights in checkpoints before the encoder was torchvision's → today's. Query, key and value were three."""


class ClassTokenVit(Backbone):
    """Pre-norm transformer over patches and one class token, with learned positions.

    An image whose sides are no multiples of the patch is padded with zeros (the mean colour) at right and bottom.

    Args:
        image_size: (height, width) in pixels.
        stem: Makes patches [N, D, h', w'] of images.
        patch_size: Pixels between patches.
        width: D, a multiple of `n_heads`.
        depth: Layers.
        n_heads: Heads.
        mlp_dim: Hidden width of the feed-forwards.
        output: ``class_token``: a map of 1×1. ``patches``: a map with a pixel per patch.
        weights: Name of published weights → address.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        stem: nn.Module,
        *,
        patch_size: int,
        width: int,
        depth: int,
        n_heads: int,
        mlp_dim: int,
        output: Literal["class_token", "patches"] = "class_token",
        weights: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.grid = (-(-image_size[0] // patch_size), -(-image_size[1] // patch_size))
        down, right = (count * patch_size - size for count, size in zip(self.grid, image_size, strict=True))
        self.padding = (0, right, 0, down)
        self.output = output
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = stem
        self.encoder = Encoder(1 + math.prod(self.grid), depth, n_heads, width, mlp_dim, 0.0, 0.0)
        self.map_shape = (width, 1, 1) if output == "class_token" else (width, *self.grid)
        self.published_weights = dict(weights or {})

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return maps, float [N, D, 1, 1] or [N, D, h', w']."""
        patches_NPD = self.conv_proj(functional.pad(images_N3hw, self.padding)).flatten(2).transpose(1, 2)
        tokens_NPD = self.encoder(torch.cat([self.class_token.expand(len(patches_NPD), -1, -1), patches_NPD], dim=1))
        chosen_NPD = tokens_NPD[:, :1] if self.output == "class_token" else tokens_NPD[:, 1:]
        maps_NDhw: Tensor = chosen_NPD.transpose(1, 2).reshape(len(images_N3hw), *self.map_shape)
        return maps_NDhw

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights without the classifier, positions interpolated to our grid."""
        today = self.upgrade_weights(weights)
        kept = {name: value for name, value in today.items() if not name.startswith(CLASSIFIER)}
        positions_1PD = kept.get(POSITIONS)
        is_published = len(kept) < len(today)  # then of a square grid, else maybe of ours
        if positions_1PD is not None and (is_published or positions_1PD.shape != self.encoder.pos_embedding.shape):
            kept[POSITIONS] = interpolate_positions(positions_1PD.flatten(0, -2), self.grid)[None]
        return kept

    def upgrade_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of an earlier version's names (`EARLIER`) under today's; others as they are."""
        if "class_token_D" not in weights:
            return dict(weights)
        today = {_renamed(name): value for name, value in weights.items()}
        for name in ("class_token", POSITIONS):
            if name in today:
                today[name] = today[name].reshape(1, -1, today[name].shape[-1])
        for layer in {name.partition(".attention.")[0] for name in today if ".attention." in name}:
            for part in ("weight", "bias"):
                joined = [today.pop(f"{layer}.attention.{name}.{part}", None) for name in ("query", "key", "value")]
                today[f"{layer}.self_attention.in_proj_{part}"] = torch.cat([v for v in joined if v is not None])
        return today


def interpolate_positions(positions_PD: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the positions of a class token and a square grid for another grid, float [1 + h'·w', D]; bicubic.

    Raises:
        ConfigError: They are not those of a square grid.
    """
    class_1D, patches_PD = positions_PD[:1], positions_PD[1:]
    side = round(len(patches_PD) ** 0.5)
    if side * side != len(patches_PD):
        raise ConfigError(f"pretrained positions: {len(patches_PD)} patches are no square grid.")
    if grid == (side, side):
        return positions_PD.clone()
    map_1Dhw = patches_PD.T.reshape(1, -1, side, side)
    resized_1Dhw = functional.interpolate(map_1Dhw, grid, mode="bicubic", align_corners=False)
    return torch.cat([class_1D, resized_1Dhw.flatten(2)[0].T], dim=0)


def vit_b16(image_size: tuple[int, int]) -> ClassTokenVit:
    """Build ViT-B/16: the class token's 768 numbers; 85,798,656 parameters at 224×224."""
    return ClassTokenVit(
        image_size,
        nn.Conv2d(3, 768, 16, 16),
        patch_size=16,
        width=768,
        depth=12,
        n_heads=12,
        mlp_dim=3072,
        weights=torchvision_weights("vit_b_16"),
    )


def vit_small(image_size: tuple[int, int]) -> ClassTokenVit:
    """Build a ViT that a CPU trains: two convolutions make patches of 12 pixels, four layers of width 128.

    It returns its patches, so that a pooling can say where something is. Convolutions before the transformer, because
    plain patches need far more pictures than a robot records in a day ("Early Convolutions Help Transformers See
    Better", Xiao et al., 2021).
    """
    stem = nn.Sequential(nn.Conv2d(3, 32, 8, 4, 2), nn.ReLU(), nn.Conv2d(32, 128, 3, 3))
    return ClassTokenVit(image_size, stem, patch_size=12, width=128, depth=4, n_heads=4, mlp_dim=256, output="patches")


def _renamed(name: str) -> str:
    layer = ""
    if name.startswith("layers."):
        _, number, name = name.split(".", 2)
        layer = f"encoder.layers.encoder_layer_{number}."
    for earlier, today in EARLIER.items():
        if name == earlier or name.startswith(f"{earlier}."):
            return layer + today + name.removeprefix(earlier)
    return layer + name
