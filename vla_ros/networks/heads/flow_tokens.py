"""Noised actions and the flow's time → tokens, and tokens → velocities. No attention, no sampling.

Axis legend: B batch, H action_horizon, A action_dim, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.networks.heads.time_embedding import time_embedding


class FlowTokens(nn.Module):
    """The action side of a flow-matching expert.

    Args:
        action_dim: A.
        width: D.
    """

    def __init__(self, action_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.action_in = nn.Linear(action_dim, width)
        self.time_in = nn.Linear(2 * width, width)
        self.time_out = nn.Linear(width, width)
        self.velocity_out = nn.Linear(width, action_dim)

    def embed(self, noised_BHA: Tensor, time_B: Tensor) -> Tensor:
        """Return one token per step, float [B, H, D]: ``out(swish(in([action, time])))``."""
        action_BHD = self.action_in(noised_BHA)
        time_BHD = time_embedding(time_B, self.width)[:, None].expand_as(action_BHD)
        tokens_BHD: Tensor = self.time_out(functional.silu(self.time_in(torch.cat([action_BHD, time_BHD], dim=-1))))
        return tokens_BHD

    def velocity(self, outputs_BHD: Tensor) -> Tensor:
        """Return velocities, float [B, H, A], of the expert's outputs."""
        velocity_BHA: Tensor = self.velocity_out(outputs_BHD)
        return velocity_BHA
