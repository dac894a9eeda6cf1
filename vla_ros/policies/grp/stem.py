"""Frames → tokens of GRP's width, by patches or by keypoints. No goals, no sequence.

Axis legend: B batch, T frames, h, w pixels, P tokens of all frames, D width.
"""

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from vla_ros.networks.vision.image_patches import check_patch_size, image_patches
from vla_ros.networks.vision.image_tokens import ImageTokens, VisionOptions, build_image_tokens

Sizes = Mapping[str, tuple[int, int]]
"""Feature key of a camera → (height, width) in pixels."""


class PatchStem(nn.Module):
    """One linear map of patches, the same for all cameras and the goal.

    Args:
        sizes: Of each camera's images.
        patch_size: Pixels.
        width: D.

    Raises:
        ConfigError: Patches do not tile an image.
    """

    def __init__(self, sizes: Sizes, patch_size: int, width: int) -> None:
        super().__init__()
        for size in sizes.values():
            check_patch_size(size, patch_size)
        self.patch_size = patch_size
        self.projector = nn.Linear(3 * patch_size * patch_size, width)

    def tokens_per_frame(self, size: tuple[int, int], camera: str) -> int:  # noqa: ARG002  # all cameras are alike
        """Return how many tokens one frame of a camera becomes."""
        return (size[0] // self.patch_size) * (size[1] // self.patch_size)

    def forward(self, frames_BT3hw: Tensor, camera: str) -> Tensor:  # noqa: ARG002  # all cameras are alike
        """Return tokens, float [B, P, D]; the frames of a place one after the other."""
        tokens_BPD: Tensor = self.projector(image_patches(frames_BT3hw, self.patch_size))
        return tokens_BPD


class KeypointStem(nn.Module):
    """A small CNN with spatial softmax for each camera; the goal goes through that of the camera it is said to be of.

    Args:
        sizes: Of each camera's images.
        n_tokens: Per frame.
        width: D.
    """

    def __init__(self, sizes: Sizes, n_tokens: int, width: int) -> None:
        super().__init__()
        options = VisionOptions(kind="keypoints", n_tokens=n_tokens)
        self.encoders = nn.ModuleDict(
            {_name(key): build_image_tokens(options, size, width) for key, size in sizes.items()}
        )

    def tokens_per_frame(self, size: tuple[int, int], camera: str) -> int:  # noqa: ARG002  # of any size, as many
        """Return how many tokens one frame of a camera becomes."""
        return self._encoder(camera).n_tokens

    def forward(self, frames_BT3hw: Tensor, camera: str) -> Tensor:
        """Return tokens, float [B, P, D], frame by frame."""
        tokens: Tensor = self._encoder(camera)(frames_BT3hw.flatten(0, 1))
        return tokens.reshape(len(frames_BT3hw), -1, tokens.shape[-1])

    def _encoder(self, camera: str) -> ImageTokens:
        return cast("ImageTokens", self.encoders[_name(camera)])


def _name(key: str) -> str:
    return key.replace(".", "/")  # a module's name may not hold dots, and a feature key holds no slash
