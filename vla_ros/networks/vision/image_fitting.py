"""Images of any size → the size that an encoder takes. Deterministic; no normalisation.

Axis legend: N images, h, w pixels.
"""

from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional

from vla_ros.data_types import ConfigError, nearest_name

Resize = Literal["stretch", "pad_left_top", "pad_center", "crop"]
"""``stretch``: both sides by their own ratio. ``pad_left_top``: the whole image at the right and bottom, zeros (black)
at the left and top. ``pad_center``: the whole image in the middle. ``crop``: the largest middle part of that shape."""


def fit_images(images_N3hw: Tensor, size: tuple[int, int], resize: Resize) -> Tensor:
    """Return images of (height, width) `size`, float [N, 3, h', w'], bilinear with antialiasing.

    Args:
        images_N3hw: float [N, 3, h, w], black at 0.
        size: Wanted.
        resize: How, where the shapes differ.

    Raises:
        ConfigError: Unknown way.
    """
    if resize not in get_args(Resize):
        known = get_args(Resize)
        raise ConfigError(f"resize '{resize}' is not one of {', '.join(known)}.{nearest_name(resize, known)}")
    given, (height, width) = images_N3hw.shape[-2:], size
    if tuple(given) == tuple(size):
        return images_N3hw
    if resize == "stretch":
        return _resized(images_N3hw, size)
    ratios = (height / given[0], width / given[1])
    ratio = max(ratios) if resize == "crop" else min(ratios)
    inner = (max(1, round(given[0] * ratio)), max(1, round(given[1] * ratio)))
    fitted = _resized(images_N3hw, inner)
    down, right = height - inner[0], width - inner[1]
    if resize == "crop":
        top, left = -down // 2, -right // 2
        return fitted[..., top : top + height, left : left + width]
    before = (right, down) if resize == "pad_left_top" else (right // 2, down // 2)
    return functional.pad(fitted, (before[0], right - before[0], before[1], down - before[1]))


def _resized(images_N3hw: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(images_N3hw, size, mode="bilinear", align_corners=False, antialias=True)
