"""Images of several cameras → tokens. Tensors in, tokens out; which camera is which is the caller's.

Axis legend: B batch, I images per sample, h, w pixels, P tokens of all images, D width.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.networks.vision.image_tokens import ImageTokens, VisionOptions, build_image_tokens


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

    def tokens_of_images(self) -> list[int]:
        """Return how many tokens each image becomes."""
        return [int(cast("ImageTokens", self.encoders[index]).n_tokens) for index in self.encoder_of_image]

    def _encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        encoded: dict[int, Tensor] = {}
        for index, encoder in enumerate(self.encoders):
            mine = [i for i, of in enumerate(self.encoder_of_image) if of == index]
            together = encoder(torch.cat([images[i] for i in mine]))  # one pass for all images of an encoder
            encoded.update(zip(mine, together.chunk(len(mine)), strict=True))
        return [encoded[i] for i in range(len(images))]
