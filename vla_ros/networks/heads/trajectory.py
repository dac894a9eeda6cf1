"""Trajectory head: one feature vector → several ways to go, each a path of waypoints, with their probabilities.

Trained by the winner: only the mode nearest to the path driven learns its shape, and the probabilities learn which one
that was (as MTP, Cui et al. 2019, arXiv:1809.10732).

Axis legend: B batch, F features, M modes, H waypoints, 3 = (x, y, yaw).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks.heads.mlp import mlp

MODE_DISTANCE_YAW = 0.5  # m that one radian of yaw counts for when the nearest mode is chosen


class Trajectories(NamedTuple):
    """What the head predicts.

    Attributes:
        waypoints_BMH3: float [B, M, H, 3], in the scale of the actions trained on.
        logits_BM: float [B, M].
    """

    waypoints_BMH3: Tensor
    logits_BM: Tensor

    def best(self) -> Tensor:
        """Return the waypoints of the most probable mode, float [B, H, 3]."""
        index_B = self.logits_BM.argmax(dim=1)
        return self.waypoints_BMH3[torch.arange(len(index_B), device=index_B.device), index_B]

    def probabilities(self) -> Tensor:
        """Return the modes' probabilities, float [B, M]."""
        return self.logits_BM.softmax(dim=1)


class TrajectoryHead(nn.Module):
    """Waypoints (x, y, yaw) of M modes over a horizon.

    Args:
        input_dim: F.
        horizon: H.
        n_modes: M.
        hidden_dims: Of the layers before the output.

    Raises:
        ConfigError: No mode or no waypoint.
    """

    def __init__(self, input_dim: int, horizon: int, n_modes: int = 3, hidden_dims: Sequence[int] = (256,)) -> None:
        super().__init__()
        if n_modes < 1 or horizon < 1:
            raise ConfigError(f"a trajectory head needs modes and waypoints, got {n_modes} and {horizon}.")
        self.horizon, self.n_modes = horizon, n_modes
        self.layers = mlp(input_dim, hidden_dims, n_modes * (horizon * 3 + 1))

    def forward(self, features_BF: Tensor) -> Trajectories:
        """Predict from features, float [B, F]."""
        numbers_BMN = self.layers(features_BF).unflatten(-1, (self.n_modes, self.horizon * 3 + 1))
        return Trajectories(numbers_BMN[..., 1:].unflatten(-1, (self.horizon, 3)), numbers_BMN[..., 0])


def trajectory_loss(predicted: Trajectories, target_BH3: Tensor, is_pad_BH: Tensor) -> tuple[Tensor, Tensor]:
    """Return two losses: of the nearest mode's waypoints (smooth L1) and of its probability (cross-entropy).

    Args:
        predicted: What the head said.
        target_BH3: float [B, H, 3].
        is_pad_BH: bool [B, H]; padded waypoints choose no mode and teach nothing.

    Returns:
        Two scalars: the mean over valid numbers, and over samples with a valid waypoint; 0 where there are none.
    """
    valid_BH = ~is_pad_BH
    target_BH3 = torch.where(valid_BH[..., None], target_BH3, 0.0)
    weight_BMH = valid_BH[:, None].to(target_BH3.dtype)
    with torch.no_grad():
        off_BMH3 = predicted.waypoints_BMH3 - target_BH3[:, None]
        distance_BMH = off_BMH3[..., :2].norm(dim=-1) + MODE_DISTANCE_YAW * off_BMH3[..., 2].abs()
        nearest_B = (distance_BMH * weight_BMH).sum(-1).argmin(dim=1)
    chosen_BH3 = predicted.waypoints_BMH3[torch.arange(len(nearest_B), device=nearest_B.device), nearest_B]
    errors_BH3 = functional.smooth_l1_loss(chosen_BH3, target_BH3, reduction="none", beta=0.1)
    waypoints = (errors_BH3 * valid_BH[..., None]).sum() / (3 * valid_BH.sum()).clamp(min=1)
    teaches_B = valid_BH.any(dim=1).to(target_BH3.dtype)
    surprise_B = functional.cross_entropy(predicted.logits_BM, nearest_B, reduction="none")
    return waypoints, (surprise_B * teaches_B).sum() / teaches_B.sum().clamp(min=1)
