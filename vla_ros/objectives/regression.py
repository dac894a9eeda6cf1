"""Regression losses over action chunks, blind to padding. No architecture, no normalisation.

Axis legend: B batch, H action_horizon, A action_dim.

What stands in a padded step never reaches a loss, not even as NaN: it is replaced before any arithmetic, so neither
the value nor the gradient can see it.
"""

import torch
from torch import Tensor
from torch.nn import functional


def masked_mean(values_BHA: Tensor, is_pad_BH: Tensor) -> Tensor:
    """Return the mean over the numbers of the steps that are not padding; 0 when all of them are.

    Args:
        values_BHA: float [B, H, A].
        is_pad_BH: bool [B, H].
    """
    kept_BHA = values_BHA.masked_fill(is_pad_BH[..., None], 0.0)
    count = (~is_pad_BH).sum() * values_BHA.shape[-1]
    return kept_BHA.sum() / count.clamp(min=1)


def smooth_l1(
    predicted_BHA: Tensor,
    target_BHA: Tensor,
    is_pad_BH: Tensor,
    beta: float = 1.0,
    weight_BH1: Tensor | None = None,
) -> Tensor:
    """Return the masked smooth-L1 (Huber) loss, quadratic below an error of `beta`.

    Args:
        predicted_BHA: float [B, H, A].
        target_BHA: float [B, H, A].
        is_pad_BH: bool [B, H], True past the episode's end.
        beta: Error at which the loss becomes linear.
        weight_BH1: Multiplies the loss of each step, float [B, H, 1].
    """
    predicted_BHA, target_BHA = _without_padding(predicted_BHA, target_BHA, is_pad_BH)
    loss_BHA = functional.smooth_l1_loss(predicted_BHA, target_BHA, reduction="none", beta=beta)
    return masked_mean(loss_BHA if weight_BH1 is None else loss_BHA * weight_BH1, is_pad_BH)


def mse(predicted_BHA: Tensor, target_BHA: Tensor, is_pad_BH: Tensor, weight_BH1: Tensor | None = None) -> Tensor:
    """Return the masked mean squared error; arguments as in `smooth_l1`."""
    predicted_BHA, target_BHA = _without_padding(predicted_BHA, target_BHA, is_pad_BH)
    loss_BHA = (predicted_BHA - target_BHA).square()
    return masked_mean(loss_BHA if weight_BH1 is None else loss_BHA * weight_BH1, is_pad_BH)


def l1(predicted_BHA: Tensor, target_BHA: Tensor, is_pad_BH: Tensor, weight_BH1: Tensor | None = None) -> Tensor:
    """Return the masked mean absolute error; arguments as in `smooth_l1`."""
    predicted_BHA, target_BHA = _without_padding(predicted_BHA, target_BHA, is_pad_BH)
    loss_BHA = (predicted_BHA - target_BHA).abs()
    return masked_mean(loss_BHA if weight_BH1 is None else loss_BHA * weight_BH1, is_pad_BH)


def magnitude_weight(motion_BHM: Tensor, scale: float = 2.0) -> Tensor:
    """Return ``1 + scale * ‖motion‖`` for each step, [B, H, 1]: large motions decide whether a task succeeds.

    Args:
        motion_BHM: The numbers of the target whose length counts, float [B, H, M].
        scale: Weight added per unit of length.
    """
    length_BH1: Tensor = torch.linalg.vector_norm(motion_BHM, dim=-1, keepdim=True)
    return 1.0 + scale * length_BH1


def _without_padding(predicted_BHA: Tensor, target_BHA: Tensor, is_pad_BH: Tensor) -> tuple[Tensor, Tensor]:
    pad_BH1 = is_pad_BH[..., None]
    return predicted_BHA.masked_fill(pad_BH1, 0.0), target_BHA.masked_fill(pad_BH1, 0.0)
