"""An image encoder as a vision-language model has it: images → patch tokens, frozen, partly tuned or with adapters.

Any encoder of the registry: vision towers of transformers, published CNNs, EfficientNet-Lite, others' packages.

Axis legend: B batch, h, w pixels, N tokens, D width.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.gradient_checkpointing import enable_gradient_checkpointing
from vla_ros.networks.lora import enable_lora
from vla_ros.networks.vision.backbone_weights import load_backbone_weights
from vla_ros.networks.vision.image_fitting import Resize, fit_images
from vla_ros.registry import ENCODERS, EncoderName
from vla_ros.schema import About, Checked

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPENAI: tuple[Triple, Triple] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
STATISTICS = {"siglip": HALF, "clip": OPENAI, "efficientnet_lite": HALF}
"""How a name begins → mean and deviation that its weights were trained with; others are ImageNet's."""


@dataclass(frozen=True, kw_only=True)
class VisionEncoderConfig(Checked):
    """Which encoder, and what it is given. What is left open is filled in when built, and stored so."""

    model_name: Annotated[EncoderName, About("Name in `vla_ros.registry.ENCODERS`.")] = "siglip_base"
    image_size: Annotated[int | tuple[int, int], About("(height, width), or the side of a square.", "pixels")] = 224
    weights: Annotated[
        str | None,
        About(
            "Pretrained weights, read before training: a folder of transformers, its name on the hub (from its cache; "
            "`download:NAME` fetches it), or as `backbone_weights`. Null starts from nothing."
        ),
    ] = None
    sizes: Annotated[dict[str, Any], About("Of a vision tower: fields of its configuration other than published.")] = (
        field(default_factory=dict)
    )
    feature_layer: Annotated[
        int | None,
        About("Of a vision tower: −1 its output, −2 before its last layer, …; null: the family's usual one."),
    ] = None
    mean: Annotated[Triple | None, About("Of each channel, of images in [0, 1]; null: the family's.")] = None
    std: Annotated[Triple | None, About("Of each channel; null: the family's.")] = None
    resize: Annotated[Resize, About("How an image of another shape is brought to `image_size`.")] = "stretch"
    freeze: Annotated[bool, About("Nothing of the encoder learns, but for what `tune_last_n` and LoRA say.")] = True
    tune_last_n: Annotated[int, About("Of a frozen encoder: its last layers that learn all the same.", at_least=0)] = 0
    lora_rank: Annotated[int, About("Rank of adapters on the attention; 0 for none.", at_least=0)] = 0
    lora_alpha: Annotated[float, About("The adapters' output is scaled by alpha / rank.", above=0)] = 32.0

    def __post_init__(self) -> None:
        if self.model_name not in ENCODERS and self.model_name.replace("-", "_") in ENCODERS:
            object.__setattr__(self, "model_name", self.model_name.replace("-", "_"))  # as papers write it
        ENCODERS.entry(self.model_name)  # refuses a name that there is not
        mean, std = next((value for start, value in STATISTICS.items() if self.model_name.startswith(start)), IMAGENET)
        for name, value in (("mean", mean), ("std", std)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        super().__post_init__()
        if self.std is not None and min(self.std) <= 0.0:
            raise ConfigError(f"std={list(self.std)} must be above 0.")
        if (self.tune_last_n or self.lora_rank) and not self.freeze:
            raise ConfigError("tune_last_n and lora_rank are of a frozen encoder; set freeze: true.")
        if self.tune_last_n and self.lora_rank:
            raise ConfigError("tune_last_n and lora_rank exclude each other: adapters leave the layers as they are.")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @classmethod
    def of_folder(cls, folder: str | Path, **options: Any) -> "VisionEncoderConfig":
        """Return the configuration of a vision tower that transformers saved in a folder: sizes, mean, std, weights.

        Args:
            folder: Holds ``config.json``, and maybe ``preprocessor_config.json``.
            options: Fields that are to be other than the folder says.

        Raises:
            ConfigError: There is none, or it is of no family that is known.
        """
        return cls(**{**_of_folder(Path(folder)), **options})


class VisionEncoder(nn.Module):
    """Images → tokens.

    ``VisionEncoder(VisionEncoderConfig(model_name="siglip-base", image_size=224))(images)`` is [B, 196, 768].

    Args:
        config: What it is.

    Attributes:
        width: D.
        grid: (rows, columns) of the tokens; (1, 1) for a vector.
        n_tokens: N.

    Raises:
        ConfigError: There is no such encoder, it does not take such options or images, or cannot be tuned so.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: VisionEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config if config is not None else VisionEncoderConfig()
        self.encoder = _build(config)
        self.width, *grid = _shape(self.encoder, config)
        self.grid = (grid[0], grid[1])
        self.n_tokens = self.grid[0] * self.grid[1]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(config, name)).view(3, 1, 1), persistent=False)
        if config.freeze:
            self.encoder.requires_grad_(False)
        if config.tune_last_n:
            for layer in _last_layers(self.encoder, config):
                layer.requires_grad_(True)
        if config.lora_rank:
            self.enable_lora(config.lora_rank, config.lora_alpha)
        self.train()

    def forward(self, images_B3hw: Tensor) -> Tensor:
        """Return tokens, float [B, N, D], in reading order, of images float [B, 3, h, w] in [0, 1] of any size."""
        fitted = (fit_images(images_B3hw, self.config.size, self.config.resize) - self.mean) / self.std
        said: Tensor = self.encoder(fitted)
        return said.flatten(2).transpose(1, 2) if said.ndim == 4 else said

    def train(self, mode: bool = True) -> "VisionEncoder":
        """Set the mode; what does not learn stays in evaluation mode, its BatchNorm statistics as they are."""
        super().train(mode)
        for part in self.encoder.modules():
            own = list(part.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                part.eval()
        return self

    def load_pretrained(self) -> None:
        """Read `weights`, if given; called before training.

        Raises:
            ConfigError: They cannot be read, or are not this encoder's.
        """
        if self.config.weights is not None:
            load_backbone_weights(self.encoder, self.config.weights)

    def enable_lora(self, r: int = 16, alpha: float = 32.0) -> list[str]:
        """Put adapters on the attention; nothing else of the encoder learns. Returns the adapted layers' names."""
        return enable_lora(self.encoder, r, alpha)

    def enable_gradient_checkpointing(self) -> int:
        """Compute activations again in the backward pass; returns how many blocks do."""
        return enable_gradient_checkpointing(self.encoder)


def _build(config: VisionEncoderConfig) -> Any:
    options = {"sizes": config.sizes, "feature_layer": config.feature_layer}
    given = {name: value for name, value in options.items() if value not in ({}, None)}
    try:
        return ENCODERS[config.model_name](config.size, **given)
    except TypeError as reason:
        if not given:
            raise
        raise ConfigError(f"encoder '{config.model_name}' has no {' and no '.join(given)}.") from reason


def _shape(encoder: Any, config: VisionEncoderConfig) -> tuple[int, int, int]:
    """Return (D, rows, columns), as the encoder says or, where it says nothing, as its tokens show."""
    if not isinstance(encoder, nn.Module):
        raise ConfigError(
            f"encoder '{config.model_name}' builds a {type(encoder).__name__}; expected a torch.nn.Module."
        )
    shape = getattr(encoder, "map_shape", None)
    if shape is None:
        like = next(encoder.parameters(), torch.zeros(()))
        with torch.no_grad():
            said = encoder(torch.zeros(1, 3, *config.size, device=like.device, dtype=like.dtype))
        shape = tuple(said.shape[1:]) if said.ndim == 4 else (said.shape[-1], said.shape[1], 1)
    channels, height, width = shape
    return channels, height, width


def _last_layers(encoder: Any, config: VisionEncoderConfig) -> list[nn.Module]:
    list_layers = getattr(encoder, "transformer_layers", None)
    if list_layers is None:
        raise ConfigError(f"tune_last_n: encoder '{config.model_name}' has no layers to choose from.")
    layers: list[nn.Module] = list_layers()
    if config.tune_last_n > len(layers):
        raise ConfigError(f"tune_last_n={config.tune_last_n}: encoder '{config.model_name}' has {len(layers)} layers.")
    return layers[-config.tune_last_n :]


def _of_folder(folder: Path) -> Mapping[str, Any]:
    from vla_ros.networks.vision.transformers_towers import FAMILIES, SIZES  # needs transformers

    content = _json(folder / "config.json")
    kind = content.get("model_type")
    name = next((name for name, family in FAMILIES.items() if kind in family.model_types), None)
    if name is None:
        known = ", ".join(kind for family in FAMILIES.values() for kind in family.model_types)
        raise ConfigError(f"{folder / 'config.json'}: model_type {kind!r} is none of {known}.")
    content = content.get("vision_config", content)
    sizes = {key: content[key] for key in SIZES[f"{name}_base"] if key in content}
    options: dict[str, Any] = {"model_name": f"{name}_base", "sizes": sizes, "weights": str(folder)}
    options["image_size"] = content.get("image_size", SIZES[f"{name}_base"]["image_size"])
    said = _json(folder / "preprocessor_config.json", required=False)
    options |= {own: tuple(said[key]) for own, key in (("mean", "image_mean"), ("std", "image_std")) if key in said}
    return options


def _json(file: Path, required: bool = True) -> dict[str, Any]:
    if not file.is_file() and not required:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise ConfigError(f"{file}: cannot be read: {reason}") from reason
    return content if isinstance(content, dict) else {}
