"""Image → tokens of a language model's width, by a vision transformer or by keypoints. No cameras, no text.

Axis legend: N images, h, w pixels, P tokens per image, W the encoder's width, D width of the tokens.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from vla_ros.networks.vision.backbones import build_backbone
from vla_ros.networks.vision.pooling import SpatialSoftmax
from vla_ros.networks.vision.vision_transformer import VisionTransformer
from vla_ros.registry import EncoderName
from vla_ros.schema import About, Checked, Only

_VIT = Only("with kind 'vit'", lambda options: options.kind == "vit")
_KEYPOINTS = Only("with kind 'keypoints'", lambda options: options.kind == "keypoints")


@dataclass(frozen=True, kw_only=True)
class VisionOptions(Checked):
    """How images become tokens; the defaults are SigLIP So400m/14, which PaliGemma uses."""

    kind: Annotated[
        Literal["vit", "keypoints"],
        About(
            "`vit`: one token per patch. `keypoints`: where a convolutional backbone's features are (spatial softmax), "
            "in few tokens; learns to localise small things from few pictures."
        ),
    ] = "vit"
    share: Annotated[
        bool, About("One encoder for all cameras, or one each (a goal image then goes through its camera's).")
    ] = True
    patch_size: Annotated[int, About("Side of a patch.", "pixels", at_least=1, only=_VIT)] = 14
    width: Annotated[int, About("Of the encoder's tokens.", at_least=1, only=_VIT)] = 1152
    depth: Annotated[int, About("Layers.", at_least=1, only=_VIT)] = 27
    n_heads: Annotated[int, About("Attention heads.", at_least=1, only=_VIT)] = 16
    mlp_dim: Annotated[int, About("Hidden width of the feed-forwards.", at_least=1, only=_VIT)] = 4304
    backbone: Annotated[EncoderName, About("Name in `vla_ros.registry.ENCODERS`.", only=_KEYPOINTS)] = "cnn"
    n_tokens: Annotated[int, About("Tokens per image.", at_least=1, only=_KEYPOINTS)] = 8


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
