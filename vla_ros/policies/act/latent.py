"""ACT's CVAE encoder: what was done, given the state, as a Gaussian over a latent. Used in training only.

Axis legend: B batch, H action_horizon, A action_dim, S state_dim, Z latent_dim, L tokens, D width.
"""

import torch
from torch import Tensor, nn

from vla_ros.networks import TransformerEncoder, sine_positions


class LatentEncoder(nn.Module):
    """A transformer over [CLS, state, a₁ … a_H]; the class token's output gives μ and log σ².

    Args:
        encoder: Over the tokens, of width `width`.
        width: D.
        action_dim: A.
        action_horizon: H.
        state_dim: S; 0 without.
        latent_dim: Z.
    """

    positions_LD: Tensor

    def __init__(
        self,
        encoder: TransformerEncoder,
        width: int,
        *,
        action_dim: int,
        action_horizon: int,
        state_dim: int,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.class_token_D = nn.Parameter(torch.randn(width))
        self.state = nn.Linear(state_dim, width) if state_dim else None
        self.action = nn.Linear(action_dim, width)
        self.encoder = encoder
        self.output = nn.Linear(width, 2 * latent_dim)
        positions_LD = sine_positions((2 if state_dim else 1) + action_horizon, width)
        self.register_buffer("positions_LD", positions_LD, persistent=False)

    def forward(self, action_BHA: Tensor, is_pad_BH: Tensor, state_BS: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return μ and log σ², float [B, Z] each.

        Args:
            action_BHA: Normalised actions, float [B, H, A].
            is_pad_BH: bool [B, H], True for steps that are hidden from it.
            state_BS: float [B, S].
        """
        # hidden steps are replaced too: a NaN times an attention weight of 0 is NaN
        action_BHA = action_BHA.masked_fill(is_pad_BH[..., None], 0.0)
        tokens = [self.class_token_D.expand(len(action_BHA), 1, -1)]
        if self.state is not None:
            tokens.append(self.state(state_BS)[:, None])
        first_BL = is_pad_BH.new_ones(len(action_BHA), len(tokens))
        tokens_BLD = torch.cat([*tokens, self.action(action_BHA)], dim=1)
        encoded_BLD = self.encoder(tokens_BLD, self.positions_LD, torch.cat([first_BL, ~is_pad_BH], dim=1))
        mean_BZ, log_variance_BZ = self.output(encoded_BLD[:, 0]).chunk(2, dim=-1)
        return mean_BZ, log_variance_BZ
