"""A recurrent memory over frames. Knows features and padding, no cameras, no actions.

Axis legend: B batch, T frames, F features of a frame, D width of the memory.
"""

import torch
from torch import Tensor, nn


class GruMemory(nn.Module):
    """One GRU layer, stepped frame by frame, so that one step and many are the same arithmetic.

    Args:
        input_dim: F.
        hidden_dim: D.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(input_dim, hidden_dim)

    def forward(self, features_BTF: Tensor, is_pad_BT: Tensor | None = None, hidden_BD: Tensor | None = None) -> Tensor:
        """Return the memory after the last frame, float [B, D].

        Args:
            features_BTF: float [B, T, F].
            is_pad_BT: bool [B, T], True for frames that leave the memory as it is. None: none does.
            hidden_BD: The memory before the first frame; None is an empty one.
        """
        if is_pad_BT is not None:
            features_BTF = features_BTF.masked_fill(is_pad_BT[..., None], 0.0)
        if hidden_BD is None:
            hidden_BD = features_BTF.new_zeros(len(features_BTF), self.cell.hidden_size)
        for step, frame_BF in enumerate(features_BTF.unbind(1)):
            before_BD, hidden_BD = hidden_BD, self.cell(frame_BF, hidden_BD)
            if is_pad_BT is not None:
                hidden_BD = torch.where(is_pad_BT[:, step, None], before_BD, hidden_BD)
        return hidden_BD
