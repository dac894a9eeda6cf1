"""What stands before an episode's first frame → that frame, whatever it was. No images, no weights.

Axis legend: B batch, T frames, oldest first.
"""

import torch
from torch import Tensor


def frame_sources(is_pad_BT: Tensor) -> Tensor:
    """Return which frame to take for each, int64 [B, T]: itself, or the first that is not padding.

    Args:
        is_pad_BT: bool [B, T], True before the episode's begin; the newest frame always counts as given.
    """
    steps = is_pad_BT.shape[1]
    first_B = is_pad_BT.long().cumprod(dim=1).sum(dim=1).clamp(max=steps - 1)
    return torch.maximum(torch.arange(steps, device=is_pad_BT.device), first_B[:, None])


def take_frames(values_BT: Tensor, sources_BT: Tensor) -> Tensor:
    """Return [B, T, ...] with each frame replaced by the one that it is taken from."""
    rows_B1 = torch.arange(len(values_BT), device=values_BT.device)[:, None]
    return values_BT[rows_B1, sources_BT]


def without_padding(values_BT: Tensor, is_pad_BT: Tensor) -> Tensor:
    """Return [B, T, ...] with the first true frame in the place of padding."""
    if is_pad_BT.shape[1] == 1:  # the newest frame always counts: images need no copy
        return values_BT
    return take_frames(values_BT, frame_sources(is_pad_BT))
