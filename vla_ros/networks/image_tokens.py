"""Image → tokens of a language model's width, by a vision transformer or by keypoints. No cameras, no text.

Axis legend: N images, h, w pixels, P tokens per image, W the encoder's width, D width of the tokens.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.backbones import build_backbone
from vla_ros.networks.pooling import SpatialSoftmax
from vla_ros.networks.vision_transformer import VisionTransformer
from vla_ros.registry import EncoderName


@dataclass(frozen=True, kw_only=True)
class VisionOptions:
    """How images become tokens; the defaults are SigLIP So400m/14, which PaliGemma uses.

    Attributes:
        kind: ``vit``: one token per patch. ``keypoints``: where a convolutional backbone's features are (spatial
            softmax), in few tokens; learns to localise small things from few pictures.
        share: One encoder for all cameras, or one each (a goal image then goes through its camera's).
        patch_size, width, depth, n_heads, mlp_dim: Of ``vit``.
        backbone: Of ``keypoints``: name in the backbone registry.
        n_tokens: Of ``keypoints``: tokens per image.
    """

    kind: Literal["vit", "keypoints"] = "vit"
    share: bool = True
    patch_size: int = 14
    width: int = 1152
    depth: int = 27
    n_heads: int = 16
    mlp_dim: int = 4304
    backbone: EncoderName = "cnn"
    n_tokens: int = 8

    def __post_init__(self) -> None:
        for name in ("patch_size", "width", "depth", "n_heads", "mlp_dim", "n_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"vision: {name}={getattr(self, name)} must be at least 1.")


class PatchTokens(nn.Module):
    """A vision transformer and a linear map to the language model's width (PaliGemma's projector).

    Attributes:
        n_tokens: P, tokens per image.
    """

    def __init__(self, options: VisionOptions, image_size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.encoder = VisionTransformer(
            image_size,
            patch_size=options.patch_size,
            width=options.width,
            depth=options.depth,
            n_heads=options.n_heads,
            mlp_dim=options.mlp_dim,
        )
        self.projector = nn.Linear(options.width, width)
        self.n_tokens = self.encoder.n_tokens

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return tokens, float [N, P, D]."""
        tokens_NPD: Tensor = self.projector(self.encoder(images_N3hw))
        return tokens_NPD


class KeypointTokens(nn.Module):
    """Keypoints of a convolutional backbone's maps, mapped together to a few tokens.

    Attributes:
        n_tokens: P, tokens per image.
    """

    def __init__(self, options: VisionOptions, image_size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.backbone = build_backbone(options.backbone, image_size)
        self.pooling = SpatialSoftmax(self.backbone.map_shape)
        self.projector = nn.Linear(self.pooling.feature_dim, options.n_tokens * width)
        self.n_tokens = options.n_tokens

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return tokens, float [N, P, D]."""
        flat: Tensor = self.projector(self.pooling(self.backbone(images_N3hw)))
        return flat.view(len(flat), self.n_tokens, -1)


ImageTokens = PatchTokens | KeypointTokens


def build_image_tokens(options: VisionOptions, image_size: tuple[int, int], width: int) -> ImageTokens:
    """Build the encoder of images of (height, width) pixels into tokens of `width` numbers.

    Raises:
        ConfigError: The encoder cannot take this image size.
    """
    kinds: dict[str, type[PatchTokens] | type[KeypointTokens]] = {"vit": PatchTokens, "keypoints": KeypointTokens}
    return kinds[options.kind](options, image_size, width)
