"""Images to an embedding, and latents to images. Sizes that are no multiples of 16 are padded. No dynamics.

Axis legend: N images, h, w pixels, F features.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

_HALVINGS = 4


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Return the least size of at least this one that four halvings divide, in pixels."""
    unit = 2**_HALVINGS
    return -(-height // unit) * unit, -(-width // unit) * unit


class ImageEncoder(nn.Module):
    """Four convolutions that halve the image.

    Args:
        height, width: Of the images, in pixels.
        depth: Channels of the first convolution; each has twice as many as the one before.
    """

    def __init__(self, height: int, width: int, depth: int) -> None:
        super().__init__()
        tall, wide = padded_size(height, width)
        self._padding = (0, wide - width, 0, tall - height)
        channels = [3, *(depth * 2**k for k in range(_HALVINGS))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(1, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.output_dim = channels[-1] * (tall >> _HALVINGS) * (wide >> _HALVINGS)

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return embeddings, float [N, E]."""
        embeddings_NE: Tensor = self.layers(functional.pad(images_N3hw, self._padding))
        return embeddings_NE


class ImageDecoder(nn.Module):
    """The encoder's mirror: a linear layer and four transposed convolutions.

    Args:
        feature_dim: F.
        height, width: Of the images, in pixels.
        depth: As the encoder's.
    """

    def __init__(self, feature_dim: int, height: int, width: int, depth: int) -> None:
        super().__init__()
        channels = [*(depth * 2**k for k in reversed(range(_HALVINGS))), 3]
        tall, wide = padded_size(height, width)
        self._size = (height, width)
        self._shape = (channels[0], tall >> _HALVINGS, wide >> _HALVINGS)
        self.input = nn.Linear(feature_dim, channels[0] * self._shape[1] * self._shape[2])
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(channels)):
            layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
            if number + 1 < _HALVINGS:
                layers += [nn.GroupNorm(1, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return normalised images, float [N, 3, h, w]."""
        images_N3hw: Tensor = self.layers(self.input(features_NF).view(-1, *self._shape))
        return images_N3hw[..., : self._size[0], : self._size[1]]
