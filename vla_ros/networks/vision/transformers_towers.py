"""Vision towers of transformers as backbones: SigLIP, CLIP and DINOv2, their patch tokens as a map. Nothing pooled.

Class and register tokens are dropped. Sizes are the published ones or given (`sizes`), so that a checkpoint is built
without the folder that its weights once came from.

Axis legend: N images, h, w pixels, P patches, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.data_types.foreign_text import first_line
from vla_ros.networks.hub_folders import hub_folder
from vla_ros.networks.vision.backbones import Backbone
from vla_ros.networks.weight_files import DOWNLOAD


@dataclass(frozen=True)
class Family:
    """What the towers of one kind have in common.

    Attributes:
        model, config: Classes of transformers.
        model_types: Of configuration files that describe one.
        patches: Ending of the name of the weight that every file of one holds.
        final_norm: Attribute of the last norm.
        normed_output: Whether the last norm is applied to the patches that transformers returns.
        n_prefix: Tokens in front of the patches.
        feature_layer: The one usually taken: −1 the tower's output, −2 the hidden states before the last layer.
        fixed: Of the configuration: parts that are not used here.
    """

    model: str
    config: str
    model_types: tuple[str, ...]
    patches: str
    final_norm: str
    normed_output: bool
    n_prefix: int
    feature_layer: int
    fixed: Mapping[str, Any]


_CONVOLUTION = "embeddings.patch_embedding.weight"
SIGLIP = Family(
    "SiglipVisionModel", "SiglipVisionConfig", ("siglip", "siglip_vision_model"), _CONVOLUTION, "post_layernorm",
    True, 0, -1, {"vision_use_head": False},
)  # fmt: skip
CLIP = Family(
    "CLIPVisionModel", "CLIPVisionConfig", ("clip", "clip_vision_model"), _CONVOLUTION, "post_layernorm",
    False, 1, -2, {},
)  # fmt: skip
DINOV2 = Family(
    "Dinov2Model", "Dinov2Config", ("dinov2",), "embeddings.patch_embeddings.projection.weight", "layernorm",
    True, 1, -1, {"use_mask_token": False},
)  # fmt: skip
FAMILIES = {"siglip": SIGLIP, "clip": CLIP, "dinov2": DINOV2}

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_MLP = ({"intermediate_size": 3072}, {"intermediate_size": 4096})
SIZES: dict[str, dict[str, Any]] = {
    "siglip_base": {**BASE, **_MLP[0], "patch_size": 16, "image_size": 224, "hidden_act": "gelu_pytorch_tanh"},
    "siglip_large": {**LARGE, **_MLP[1], "patch_size": 16, "image_size": 256, "hidden_act": "gelu_pytorch_tanh"},
    "clip_base": {**BASE, **_MLP[0], "patch_size": 16, "image_size": 224, "hidden_act": "quick_gelu"},
    "clip_large": {**LARGE, **_MLP[1], "patch_size": 14, "image_size": 224, "hidden_act": "quick_gelu"},
    "dinov2_base": {**BASE, "mlp_ratio": 4, "patch_size": 14, "image_size": 518, "hidden_act": "gelu"},
    "dinov2_large": {**LARGE, "mlp_ratio": 4, "patch_size": 14, "image_size": 518, "hidden_act": "gelu"},
}
"""Name → the published tower's configuration."""
PUBLISHED = {
    "siglip_base": "google/siglip-base-patch16-224",
    "siglip_large": "google/siglip-large-patch16-256",
    "clip_base": "openai/clip-vit-base-patch16",
    "clip_large": "openai/clip-vit-large-patch14",
    "dinov2_base": "facebook/dinov2-base",
    "dinov2_large": "facebook/dinov2-large",
}
"""Name → where its weights are published, on transformers' hub."""


class TransformersTower(Backbone):
    """One of transformers' vision towers; its patch tokens, in reading order, are the places of the map.

    Positions are interpolated, by transformers, where the image is not of the published size.

    Args:
        image_size: (height, width) in pixels, multiples of the patch.
        name: In `SIZES`.
        feature_layer: Which hidden states: −1 the tower's output, −2 those before its last layer, and so on; layers
            after them are not built. None takes the family's usual one.
        sizes: Fields of transformers' configuration other than the published ones.

    Raises:
        ConfigError: transformers is not installed, a field or layer does not exist, or sizes do not divide.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        name: str = "siglip_base",
        *,
        feature_layer: int | None = None,
        sizes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.family = name, FAMILIES[name.partition("_")[0]]
        self.feature_layer = self.family.feature_layer if feature_layer is None else feature_layer
        self._sizes = {**SIZES[name], **(sizes or {})}
        self._check(image_size)
        depth = self._sizes["num_hidden_layers"] + self.feature_layer + 1
        transformers = _transformers(name)
        config = getattr(transformers, self.family.config)(
            **{**self._sizes, "num_hidden_layers": depth}, **self.family.fixed
        )
        self.model = transformers.AutoModel.from_config(config, attn_implementation="sdpa")
        if not self._takes_final_norm:
            setattr(self.model, self.family.final_norm, nn.Identity())
        patch = config.patch_size
        self.map_shape = (config.hidden_size, image_size[0] // patch, image_size[1] // patch)
        self._interpolates = tuple(image_size) != (config.image_size, config.image_size)
        self.published_weights = {PUBLISHED[name]: ""}

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return patch tokens as a map, float [N, W, h', w']."""
        tokens_NPW = self.tokens(images_N3hw)
        return tokens_NPW.transpose(1, 2).reshape(len(images_N3hw), *self.map_shape)

    def tokens(self, images_N3hw: Tensor) -> Tensor:
        """Return patch tokens, float [N, P, W], without class or register tokens."""
        # DINOv2 always interpolates, and has no option
        options = {} if self.family is DINOV2 else {"interpolate_pos_encoding": self._interpolates}
        hidden_NLW: Tensor = self.model(images_N3hw, **options).last_hidden_state
        return hidden_NLW[:, self.family.n_prefix :]

    def transformer_layers(self) -> list[nn.Module]:
        """Return the transformer layers, first to last."""
        return list(next(part for part in self.model.modules() if isinstance(part, nn.ModuleList)))

    def translate_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights under our names; those of parts that are not built are left out."""
        start = next((n.removesuffix(self.family.patches) for n in weights if n.endswith(self.family.patches)), None)
        if start is None:
            return dict(weights)
        named = {
            f"model.{name.removeprefix(start)}": value for name, value in weights.items() if name.startswith(start)
        }
        kept = {"model." + name for name in self.model.state_dict()}
        left_out = ("model.head.", "model.embeddings.mask_token", "model.embeddings.position_ids", "model.pooler.")
        norm = () if self._takes_final_norm else (f"model.{self.family.final_norm}.",)
        later = tuple(f"model.encoder.{stack}.{n}." for stack in ("layers", "layer") for n in self._layers_left_out)
        return {
            name: value
            for name, value in named.items()
            if name in kept or not name.startswith((*left_out, *norm, *later))
        }

    def read_published(self, source: str) -> dict[str, Tensor] | None:
        """Return the weights of a folder or name of transformers; None where the source is neither.

        Raises:
            ConfigError: It is one and cannot be read, or lacks weights.
        """
        name = source.removeprefix(DOWNLOAD)
        is_folder = Path(source).is_dir() and (Path(source) / "config.json").is_file()
        if not is_folder and name not in self.published_weights:
            return None
        kind, folder = getattr(_transformers(name), self.family.model), hub_folder(source, "vision tower")
        try:
            model, said = kind.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, dtype=torch.float32,
                trust_remote_code=False, **self.family.fixed,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError) as reason:
            raise ConfigError(f"vision tower '{name}' cannot be read: {first_line(reason)}.") from reason
        if said["missing_keys"]:
            raise ConfigError(f"vision tower '{name}': the weights lack {min(said['missing_keys'])} and others.")
        return cast("dict[str, Tensor]", model.state_dict())

    @property
    def _takes_final_norm(self) -> bool:
        return self.feature_layer == -1 and self.family.normed_output

    @property
    def _layers_left_out(self) -> range:
        depth: int = self._sizes["num_hidden_layers"]
        return range(depth + self.feature_layer + 1, depth)

    def _check(self, image_size: tuple[int, int]) -> None:
        known = {*SIZES[self.name], "image_size", "num_channels", "layer_norm_eps", "mlp_ratio", "intermediate_size"}
        for field in self._sizes:
            if field not in known:
                raise ConfigError(
                    f"sizes: '{field}' is not one of {', '.join(sorted(known))}.{nearest_name(field, known)}"
                )
        width, heads, patch = (self._sizes[key] for key in ("hidden_size", "num_attention_heads", "patch_size"))
        if width % heads:
            raise ConfigError(f"sizes: num_attention_heads={heads} must divide hidden_size={width}.")
        if image_size[0] % patch or image_size[1] % patch:
            raise ConfigError(
                f"encoder '{self.name}': patch_size={patch} must divide the image of {image_size[0]}×{image_size[1]}."
            )
        depth = self._sizes["num_hidden_layers"]
        if not -depth <= self.feature_layer <= -1:
            raise ConfigError(
                f"feature_layer={self.feature_layer} must be −1 to −{depth}, the layers of '{self.name}'."
            )


siglip_base = partial(TransformersTower, name="siglip_base")
siglip_large = partial(TransformersTower, name="siglip_large")
clip_base = partial(TransformersTower, name="clip_base")
clip_large = partial(TransformersTower, name="clip_large")
dinov2_base = partial(TransformersTower, name="dinov2_base")
dinov2_large = partial(TransformersTower, name="dinov2_large")


def _transformers(name: str) -> Any:
    try:
        return import_module("transformers")
    except ImportError as reason:
        raise ConfigError(f"encoder '{name}' needs the package transformers: pip install transformers") from reason
