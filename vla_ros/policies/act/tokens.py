"""What ACT's transformer reads: an observation's features as tokens with positions. No images, no keys, no attention.

Axis legend: B batch, T n_obs_steps, F features of a frame, S state_dim, C channels, h, w pixels of a map, Z latent_dim,
L tokens, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_ros.networks import sine_positions, sine_positions_2d


class FrameTokens(nn.Module):
    """The walkthrough's: a token per frame, visual features and state mapped to one width and added.

    Args:
        visual_dim: F, of all cameras together; 0 without.
        state_dim: S; 0 without.
        n_frames: T.
        width: D.
    """

    positions_TD: Tensor

    def __init__(self, visual_dim: int, state_dim: int, n_frames: int, width: int) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_dim, width) if visual_dim else None
        self.state = nn.Linear(state_dim, width) if state_dim else None
        self.register_buffer("positions_TD", sine_positions(n_frames, width), persistent=False)

    def forward(self, visual_BTF: Tensor | None, state_BTS: Tensor | None) -> Tensor:
        """Return tokens with their positions added, float [B, T, D]."""
        tokens_BTD = self.positions_TD
        if self.visual is not None:
            tokens_BTD = tokens_BTD + self.visual(visual_BTF)
        if self.state is not None:
            tokens_BTD = tokens_BTD + self.state(state_BTS)
        return tokens_BTD


class MapTokens(nn.Module):
    """The published: a token for the latent, one for the state, one for each pixel of each camera's map.

    Latent and state have learned positions, pixels fixed ones of row and column.

    Args:
        map_shapes: (C, h, w) of each camera.
        share: One map to the width for all cameras, or one each.
        state_dim: S; 0 without.
        latent_dim: Z.
        width: D.
    """

    map_positions_PD: Tensor

    def __init__(
        self, map_shapes: Sequence[tuple[int, int, int]], share: bool, state_dim: int, latent_dim: int, width: int
    ) -> None:
        super().__init__()
        self.latent = nn.Linear(latent_dim, width)
        self.state = nn.Linear(state_dim, width) if state_dim else None
        channels = [shape[0] for shape in map_shapes]
        self.maps = nn.ModuleList(nn.Conv2d(count, width, 1) for count in (channels[:1] if share else channels))
        self.vector_positions_ND = nn.Parameter(torch.randn(2 if state_dim else 1, width))
        places = [sine_positions_2d(height, width_px, width) for _, height, width_px in map_shapes]
        places_PD = torch.cat(places) if places else torch.zeros(0, width)
        self.register_buffer("map_positions_PD", places_PD, persistent=False)

    def positions(self) -> Tensor:
        """Return the positions of all tokens, float [L, D]; the transformer adds them to queries and keys."""
        return torch.cat([self.vector_positions_ND, self.map_positions_PD])

    def forward(self, latent_BZ: Tensor, state_BS: Tensor | None, maps: Sequence[Tensor]) -> Tensor:
        """Return tokens without positions, float [B, L, D].

        Args:
            latent_BZ: float [B, Z].
            state_BS: float [B, S].
            maps: Of each camera, float [B, C, h, w].
        """
        tokens = [self.latent(latent_BZ)[:, None]]
        if self.state is not None:
            tokens.append(self.state(state_BS)[:, None])
        for number, map_BChw in enumerate(maps):
            projection = self.maps[0 if len(self.maps) == 1 else number]
            tokens.append(projection(map_BChw).flatten(2).transpose(1, 2))
        return torch.cat(tokens, dim=1)
