"""Images → square patches as rows of numbers. No weights, no cameras.

Axis legend: B batch, T frames, C channels, h, w pixels, P patches of all frames.
"""

from torch import Tensor

from vla_ros.data_types import ConfigError


def check_patch_size(image_size: tuple[int, int], patch_size: int) -> None:
    """Refuse patches that do not tile the image.

    Raises:
        ConfigError: Names both sizes.
    """
    height, width = image_size
    if height % patch_size or width % patch_size:
        raise ConfigError(
            f"patch_size={patch_size} does not divide the image of {height}×{width} pixels; "
            "choose another, or resize images with normalisation.image_size (describe: --image-size)."
        )


def image_patches(images_BTChw: Tensor, patch_size: int) -> Tensor:
    """Cut frames into patches.

    Returns:
        float [B, P, patch_size² · C]. Patches in reading order, the frames of a place one after the other; within one,
        pixels in reading order, the channels of a pixel together: ``b t c (y i) (x j) -> b (y x t) (i j c)``.
    """
    batch, frames, channels, height, width = images_BTChw.shape
    rows, columns = height // patch_size, width // patch_size
    patches = images_BTChw.reshape(batch, frames, channels, rows, patch_size, columns, patch_size)
    patches = patches.permute(0, 3, 5, 1, 4, 6, 2)  # b y x t i j c
    return patches.reshape(batch, rows * columns * frames, patch_size * patch_size * channels)
