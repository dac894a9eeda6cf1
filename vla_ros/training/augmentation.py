"""Random changes to training observations, before the processors. Never used outside training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.data_types import Array
from vla_ros.processors import Processors
from vla_ros.training.recipe import AugmentationOptions


def augment(
    raw: Mapping[str, Any], processors: Processors, options: AugmentationOptions, generator: torch.Generator
) -> dict[str, Any]:
    """Return the batch with its observations changed at random.

    All frames of a window change alike, so that motion between them stays what it was; cameras change independently.

    Args:
        raw: As `Processors.batch` takes it; images uint8 [B, T, h, w, 3], vectors [B, T, S].
        processors: Know which entries are what, and the vectors' means.
        options: How much.
        generator: Source of chance.
    """
    changed = dict(raw)
    for key in (key for key, spec in processors.inputs.items() if spec.kind == "image"):
        images = np.asarray(raw[key])
        if options.random_shift:
            images = random_shift(images, options.random_shift, generator)
        if options.brightness or options.contrast:
            images = jitter(images, options.brightness, options.contrast, generator)
        changed[key] = images
    if options.vector_dropout:
        means = {
            key: processors.statistics[key]["mean"].numpy()
            for key, spec in processors.inputs.items()
            if spec.kind == "vector"
        }
        changed |= drop_vectors(raw, means, options.vector_dropout, generator)
    return changed


def drop_vectors(
    raw: Mapping[str, Any], means: Mapping[str, Array], probability: float, generator: torch.Generator
) -> dict[str, Array]:
    """Return the vectors of the batch, in some windows replaced by their means: all of a window's together.

    Args:
        raw: Holds a vector [B, T, S] for every key of `means`.
        means: Key → [S], in the vector's own units.
        probability: Of a window.
        generator: Source of chance.
    """
    changed: dict[str, Array] = {}
    for key, mean in means.items():
        values = np.asarray(raw[key])
        if not changed:
            dropped = torch.rand(len(values), generator=generator).numpy() < probability
        changed[key] = np.where(dropped[:, None, None], mean.astype(values.dtype), values)
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
