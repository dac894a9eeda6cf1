"""Images of one or several cameras → tokens of a language model's width, by a vision transformer or by keypoints.

Which camera is which is the caller's matter.

Axis legend: N images, B batch, I images per sample, h, w pixels, P tokens (of an image, or of all), W the encoder's
width, D width of the tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.block import Block, BlockOptions
from vla_ros.registry import ENCODERS, POOLINGS, EncoderName, build_part
from vla_ros.schema import About, Checked, Only

EPS = 1e-6

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


class VisionTransformer(nn.Module):
    """A vision transformer that returns its patches, each with a learned position: no class token, no pooling.

    At the sizes of SigLIP it is SigLIP's vision tower, and takes its weights (`copy_siglip`); small, it trains from
    scratch.

    Args:
        image_size: (height, width) in pixels, multiples of `patch_size`.
        patch_size: Pixels.
        width: W, a multiple of `n_heads`.
        depth: Layers.
        n_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.

    Attributes:
        n_tokens: P, tokens per image.
        width: W.

    Raises:
        ConfigError: Sizes do not divide.
    """

    def __init__(
        self, image_size: tuple[int, int], *, patch_size: int, width: int, depth: int, n_heads: int, mlp_dim: int
    ) -> None:
        super().__init__()
        if image_size[0] % patch_size or image_size[1] % patch_size:
            raise ConfigError(
                f"vision: patch_size={patch_size} must divide the image of {image_size[0]}×{image_size[1]}."
            )
        if width % n_heads:
            raise ConfigError(f"vision: n_heads={n_heads} must divide width={width}.")
        self.n_tokens = (image_size[0] // patch_size) * (image_size[1] // patch_size)
        self.width = width
        self.patches = nn.Conv2d(3, width, patch_size, patch_size)
        self.positions_PW = nn.Parameter(torch.randn(self.n_tokens, width) * width**-0.5)
        block = BlockOptions(
            width=width,
            n_heads=n_heads,
            mlp_dim=mlp_dim,
            norm_first=True,
            eps=EPS,
            activation="gelu_tanh",
            xavier=False,
        )
        self.layers = nn.ModuleList(Block(block) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return tokens, float [N, P, W], in reading order."""
        tokens_NPW: Tensor = self.patches(images_N3hw).flatten(2).transpose(1, 2) + self.positions_PW
        for layer in self.layers:
            tokens_NPW = layer(tokens_NPW)
        normed_NPW: Tensor = self.final_norm(tokens_NPW)
        return normed_NPW


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
        self.backbone = build_part(ENCODERS, options.backbone, image_size, sizes={"map_shape": 3})
        self.pooling = build_part(POOLINGS, "spatial_softmax", self.backbone.map_shape, sizes={"feature_dim": 1})
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


class CameraTokens(nn.Module):
    """Embeds a fixed number of images.

    Each has a learned vector, zero at first, added to its tokens: cameras that share an encoder, and a goal beside an
    observation, are otherwise told apart by nothing but their place.

    Args:
        vision: How images become tokens.
        image_sizes: (height, width) in pixels of each camera.
        camera_of_image: Index of the camera whose encoder takes image i, for I images.
        width: D.
    """

    def __init__(
        self,
        vision: VisionOptions,
        image_sizes: Sequence[tuple[int, int]],
        camera_of_image: Sequence[int],
        width: int,
    ) -> None:
        super().__init__()
        sizes = image_sizes[:1] if vision.share else image_sizes
        self.encoders = nn.ModuleList(build_image_tokens(vision, size, width) for size in sizes)
        self.encoder_of_image = [0 if vision.share else camera for camera in camera_of_image]
        built = [cast("ImageTokens", encoder) for encoder in self.encoders]
        self.tokens_of_image = [built[index].n_tokens for index in self.encoder_of_image]
        self.image_embedding_ID = nn.Parameter(torch.zeros(len(camera_of_image), width))

    def forward(self, images: Sequence[Tensor], valid_BI: Tensor) -> tuple[Tensor, Tensor]:
        """Embed.

        Args:
            images: I of them, float [B, 3, h, w] each; what stands in one that is not valid does not matter.
            valid_BI: bool [B, I], False where a sample has no such image.

        Returns:
            Tokens, float [B, P, D], image by image, and which are valid, bool [B, P].
        """
        valid_of_image = valid_BI.unbind(1)
        # padding may hold anything, even NaN, which an attention weight of zero would not stop
        images = [
            image.masked_fill(~valid_B[:, None, None, None], 0.0)
            for image, valid_B in zip(images, valid_of_image, strict=True)
        ]
        encoded = self._encode(images)
        tokens = [part_BPD + vector_D for part_BPD, vector_D in zip(encoded, self.image_embedding_ID, strict=True)]
        valid = [v_B[:, None].expand(-1, t.shape[1]) for v_B, t in zip(valid_of_image, tokens, strict=True)]
        return torch.cat(tokens, dim=1), torch.cat(valid, dim=1)

    def _encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        encoded: dict[int, Tensor] = {}
        for index, encoder in enumerate(self.encoders):
            mine = [i for i, of in enumerate(self.encoder_of_image) if of == index]
            together = encoder(torch.cat([images[i] for i in mine]))  # one pass for all images of an encoder
            encoded.update(zip(mine, together.chunk(len(mine)), strict=True))
        return [encoded[i] for i in range(len(images))]
