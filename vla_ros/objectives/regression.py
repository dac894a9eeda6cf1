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
        is_pad_BH: bool [B, H], or [B, H, A] where single numbers of a step are padding.
    """
    kept_BHA = values_BHA.masked_fill(of_numbers(is_pad_BH), 0.0)
    numbers = values_BHA.shape[-1] if is_pad_BH.ndim == 2 else 1
    return kept_BHA.sum() / ((~is_pad_BH).sum() * numbers).clamp(min=1)


def of_numbers(is_pad_BH: Tensor) -> Tensor:
    """Return padding as it broadcasts over numbers [B, H, A]; it may be of steps [B, H] or of numbers already."""
    return is_pad_BH if is_pad_BH.ndim == 3 else is_pad_BH[..., None]


def padding_of_numbers(is_pad_BH: Tensor, dim_is_pad_BA: Tensor | None) -> Tensor:
    """Return which numbers are padding, bool [B, H, A]; as it is, bool [B, H], where none is by itself.

    Args:
        is_pad_BH: bool [B, H], of whole steps.
        dim_is_pad_BA: bool [B, A], of numbers that a sample's robot does not have, or None.
    """
    return is_pad_BH if dim_is_pad_BA is None else is_pad_BH[..., None] | dim_is_pad_BA[:, None]


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
        is_pad_BH: bool [B, H], True past the episode's end; or [B, H, A], also True for numbers that there are not.
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
        motion_BHM: The numbers of the target whose length counts, float [B, H, M]: zero is standing still, and all
            are on one scale.
        scale: Weight added per unit of length.
    """
    length_BH1: Tensor = torch.linalg.vector_norm(motion_BHM, dim=-1, keepdim=True)
    return 1.0 + scale * length_BH1


def _without_padding(predicted_BHA: Tensor, target_BHA: Tensor, is_pad_BH: Tensor) -> tuple[Tensor, Tensor]:
    pad_BH1 = of_numbers(is_pad_BH)
    return predicted_BHA.masked_fill(pad_BH1, 0.0), target_BHA.masked_fill(pad_BH1, 0.0)
