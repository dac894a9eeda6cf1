"""What a head without tokens is given to take noise from a chunk: features, the noisy chunk, and how noisy it is.

As the diffusion head of Octo (Octo Model Team, 2024): sampling repeats the head only, not what made the features.

Axis legend: B batch, F features, H action_horizon, A action_dim.
"""

import torch
from torch import Tensor

from vla_ros.networks.attention.embeddings import time_embedding

TIME_DIM = 64


def noise_dim(action_horizon: int, action_dim: int) -> int:
    """Return how many numbers `with_noise` adds to the features."""
    return action_horizon * action_dim + TIME_DIM


def with_noise(features_BF: Tensor, noised_BHA: Tensor, time_B: Tensor) -> Tensor:
    """Return [features, noisy chunk, embedded time], float [B, F + H·A + 64]."""
    return torch.cat([features_BF, noised_BHA.flatten(1), time_embedding(time_B, TIME_DIM)], dim=1)
