"""What was observed and done over the last T frames → one context vector, causal.

Axis legend: B batch, T frames, O features of an observation, A action_dim, C context.
"""

import torch
from torch import Tensor, nn

from vla_ros.networks.attention.embeddings import sine_positions


class HistoryEncoder(nn.Module):
    """A causal transformer over observations and the actions before them: (o_1, –), (o_2, a_1) … (o_T, a_T−1).

    Args:
        obs_dim: O.
        action_dim: A.
        context_dim: C, the width too; a multiple of `n_heads` and of 2.
        n_layers: Layers.
        n_heads: Heads.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, context_dim: int = 256, n_layers: int = 2, n_heads: int = 4
    ) -> None:
        super().__init__()
        self.observation = nn.Linear(obs_dim, context_dim)
        self.action = nn.Linear(action_dim, context_dim)
        self.no_action = nn.Parameter(torch.randn(context_dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            context_dim, n_heads, 4 * context_dim, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(context_dim), enable_nested_tensor=False)

    def forward(self, observations_BTO: Tensor, actions_BA: Tensor, is_pad_BT: Tensor | None = None) -> Tensor:
        """Return the newest frame's context, float [B, C].

        Args:
            observations_BTO: float [B, T, O], oldest first.
            actions_BA: float [B, T-1, A]; `actions_BA[:, t]` was taken at frame t.
            is_pad_BT: bool [B, T], True for frames before the episode began; they and their actions change nothing. The
                newest frame is never one.
        """
        contexts_BTC: Tensor = self.contexts(observations_BTO, actions_BA, is_pad_BT)
        return contexts_BTC[:, -1]

    def contexts(self, observations_BTO: Tensor, actions_BA: Tensor, is_pad_BT: Tensor | None = None) -> Tensor:
        """Return every frame's context, float [B, T, C]; none depends on a later frame."""
        batch, length, _ = observations_BTO.shape
        if is_pad_BT is None:
            is_pad_BT = torch.zeros(batch, length, dtype=torch.bool, device=observations_BTO.device)
        taken_BTC = torch.cat([self.no_action.expand(batch, 1, -1), self.action(actions_BA)], dim=1)
        # the action before the first frame of an episode is none, whatever stands there
        begins_BT = torch.cat([torch.ones_like(is_pad_BT[:, :1]), is_pad_BT[:, :-1]], dim=1)
        taken_BTC = torch.where(begins_BT[..., None], self.no_action, taken_BTC)
        positions_TC = sine_positions(length, taken_BTC.shape[-1]).to(taken_BTC)
        tokens_BTC = self.observation(observations_BTO) + taken_BTC + positions_TC
        hidden_TT = torch.ones(length, length, dtype=torch.bool, device=tokens_BTC.device).triu(1)
        hidden_BTT = hidden_TT | is_pad_BT[:, None]
        # a frame sees itself even where it is padding: a row that sees nothing would be NaN
        hidden_BTT = hidden_BTT & ~torch.eye(length, dtype=torch.bool, device=tokens_BTC.device)
        heads = self.layers.layers[0].self_attn.num_heads
        contexts_BTC: Tensor = self.layers(tokens_BTC, mask=hidden_BTT.repeat_interleave(heads, dim=0))
        return contexts_BTC
