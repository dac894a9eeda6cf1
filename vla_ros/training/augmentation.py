"""Random changes to training images, on bytes, before the processors. Never used outside training."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.training.recipe import AugmentationOptions


def augment(
    raw: Mapping[str, Any], image_keys: Collection[str], options: AugmentationOptions, generator: torch.Generator
) -> dict[str, Any]:
    """Return the batch with its images changed at random.

    All frames of a window change alike, so that motion between them stays what it was; cameras change independently.

    Args:
        raw: As `Processors.batch` takes it; images uint8 [B, T, h, w, 3].
        image_keys: Which entries are images.
        options: How much.
        generator: Source of chance.
    """
    changed = dict(raw)
    for key in image_keys:
        images = np.asarray(raw[key])
        if options.random_shift:
            images = random_shift(images, options.random_shift, generator)
        if options.brightness or options.contrast:
            images = jitter(images, options.brightness, options.contrast, generator)
        changed[key] = images
    return changed


def random_shift(images: NDArray[np.uint8], pixels: int, generator: torch.Generator) -> NDArray[np.uint8]:
    """Shift each window's images by up to `pixels` along both axes; what comes in repeats the edge.

    Args:
        images: uint8 [B, T, h, w, 3].
        pixels: Largest shift.
        generator: Source of chance.
    """
    size, _, height, width, _ = images.shape
    tops, lefts = torch.randint(0, 2 * pixels + 1, (2, size), generator=generator).tolist()
    around = (pixels, pixels)
    padded = np.pad(images, ((0, 0), (0, 0), around, around, (0, 0)), mode="edge")
    shifted = np.empty_like(images)
    # A copy of one block per sample: ten times faster than gathering pixel by pixel.
    for index, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        shifted[index] = padded[index, :, top : top + height, left : left + width]
    return shifted


def jitter(
    images: NDArray[np.uint8], brightness: float, contrast: float, generator: torch.Generator
) -> NDArray[np.uint8]:
    """Change brightness and contrast of each window's images; arguments as in `AugmentationOptions`."""
    size = len(images)
    bright, spread = (torch.rand(2, size, generator=generator) * 2 - 1)[:, :, None, None, None, None]
    values = torch.from_numpy(images).float()
    mean = values.mean(dim=(1, 2, 3, 4), keepdim=True)
    values = (values - mean) * (1 + contrast * spread) + mean + 255 * brightness * bright
    changed: NDArray[np.uint8] = values.round_().clamp_(0, 255).byte().numpy()
    return changed
