"""A loss of its own."""

from torch import Tensor
from torch.nn import functional

from vla_ros.objectives import masked_mean


def huber(predicted_BHA: Tensor, target_BHA: Tensor, is_pad_BH: Tensor, weight_BH1: Tensor | None = None) -> Tensor:
    """Return the Huber loss with delta 0.5 over steps that are no padding."""
    error_BHA = functional.huber_loss(predicted_BHA, target_BHA, reduction="none", delta=0.5)
    return masked_mean(error_BHA if weight_BH1 is None else error_BHA * weight_BH1, is_pad_BH)
