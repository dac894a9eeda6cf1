"""Vision transformer with a class token, as ViT-B/16, as a backbone. Weights of torchvision's can be read.

"An Image is Worth 16x16 Words" (Dosovitskiy et al., 2020). `vision_transformer` is SigLIP's form, without class token.

Axis legend: N images, C channels, h, w pixels, P patches, D width.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.transformer import EncoderLayer
from vla_ros.networks.vision.backbones import Backbone

EPS = 1e-6
CLASSIFIER = ("heads.head.weight", "heads.head.bias")
_LAYER = {
    "attention_norm": "ln_1",
    "attention.output": "self_attention.out_proj",
    "mlp_norm": "ln_2",
    "mlp.inner": "mlp.0",
    "mlp.outer": "mlp.3",
}


class ClassTokenVit(Backbone):
    """Pre-norm transformer over patches and one class token, with learned positions.

    An image whose sides are no multiples of the patch is padded with zeros (the mean colour) at right and bottom.

    Args:
        image_size: (height, width) in pixels.
        patches: Makes [N, D, h', w'] of images.
        patch_size: Pixels between patches.
        width: D, a multiple of `n_heads`.
        depth: Layers.
        n_heads: Heads.
        mlp_dim: Hidden width of the feed-forwards.
        output: ``class_token``: a map of 1×1. ``patches``: a map with a pixel per patch.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        patches: nn.Module,
        *,
        patch_size: int,
        width: int,
        depth: int,
        n_heads: int,
        mlp_dim: int,
        output: Literal["class_token", "patches"] = "class_token",
    ) -> None:
        super().__init__()
        self.grid = (-(-image_size[0] // patch_size), -(-image_size[1] // patch_size))
        down, right = (count * patch_size - size for count, size in zip(self.grid, image_size, strict=True))
        self.padding = (0, right, 0, down)
        self.output = output
        self.patches = patches
        self.class_token_D = nn.Parameter(torch.zeros(width))
        self.positions_PD = nn.Parameter(torch.randn(1 + self.grid[0] * self.grid[1], width) * 0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(width, n_heads, mlp_dim, activation="gelu", pre_norm=True, eps=EPS) for _ in range(depth)
        )
        self.final_norm = nn.LayerNorm(width, eps=EPS)
        self.map_shape = (width, 1, 1) if output == "class_token" else (width, *self.grid)

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return maps, float [N, D, 1, 1] or [N, D, h', w']."""
        patches_NPD = self.patches(functional.pad(images_N3hw, self.padding)).flatten(2).transpose(1, 2)
        class_N1D = self.class_token_D.expand(len(patches_NPD), 1, -1)
        tokens_NPD = torch.cat([class_N1D, patches_NPD], dim=1) + self.positions_PD
        for layer in self.layers:
            tokens_NPD = layer(tokens_NPD)
        tokens_NPD = self.final_norm(tokens_NPD)
        chosen_NPD = tokens_NPD[:, :1] if self.output == "class_token" else tokens_NPD[:, 1:]
        maps_NDhw: Tensor = chosen_NPD.transpose(1, 2).reshape(len(images_N3hw), *self.map_shape)
        return maps_NDhw

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return torchvision's weights under our names, without the classifier, positions interpolated to our grid."""
        if "class_token" not in weights:
            return dict(weights)
        rest = {name: value for name, value in weights.items() if name not in CLASSIFIER}
        ours = {"class_token_D": rest.pop("class_token").flatten()}
        positions_PD = rest.pop("encoder.pos_embedding", None)
        if positions_PD is not None:
            ours["positions_PD"] = interpolate_positions(positions_PD.squeeze(0), self.grid)
        for number in range(len(self.layers)):
            theirs = f"encoder.layers.encoder_layer_{number}"
            for part in ("weight", "bias"):
                joined = rest.pop(f"{theirs}.self_attention.in_proj_{part}", None)
                if joined is not None:
                    for name, chunk in zip(("query", "key", "value"), joined.chunk(3), strict=True):
                        ours[f"layers.{number}.attention.{name}.{part}"] = chunk.clone()
                for our, their in _LAYER.items():
                    _move(rest, f"{theirs}.{their}.{part}", ours, f"layers.{number}.{our}.{part}")
        for part in ("weight", "bias"):
            _move(rest, f"conv_proj.{part}", ours, f"patches.{part}")
            _move(rest, f"encoder.ln.{part}", ours, f"final_norm.{part}")
        return {**ours, **rest}  # what is left belongs nowhere, and the loader says so


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
    patches = nn.Conv2d(3, 768, 16, 16)
    return ClassTokenVit(image_size, patches, patch_size=16, width=768, depth=12, n_heads=12, mlp_dim=3072)


def vit_small(image_size: tuple[int, int]) -> ClassTokenVit:
    """Build a ViT that a CPU trains: two convolutions make patches of 12 pixels, four layers of width 128.

    It returns its patches, so that a pooling can say where something is. Convolutions before the transformer, because
    plain patches need far more pictures than a robot records in a day ("Early Convolutions Help Transformers See
    Better", Xiao et al., 2021).
    """
    patches = nn.Sequential(nn.Conv2d(3, 32, 8, 4, 2), nn.ReLU(), nn.Conv2d(32, 128, 3, 3))
    return ClassTokenVit(
        image_size, patches, patch_size=12, width=128, depth=4, n_heads=4, mlp_dim=256, output="patches"
    )


def _move(source: dict[str, Tensor], name: str, target: dict[str, Tensor], new_name: str) -> None:
    if name in source:
        target[new_name] = source.pop(name)
