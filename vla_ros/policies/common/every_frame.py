"""A recurrent memory over frames, and what it is trained on. Knows features and padding, no cameras.

Axis legend: B batch, T frames, F features of a frame, D width of the memory, H action_horizon, A action_dim.
"""

import torch
from torch import Tensor, nn

from vla_ros.policies.base import Batch


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
        """Return the memory after each frame, float [B, T, D].

        Args:
            features_BTF: float [B, T, F].
            is_pad_BT: bool [B, T], True for frames that leave the memory as it is. None: none does.
            hidden_BD: The memory before the first frame; None is an empty one.
        """
        if is_pad_BT is not None:
            features_BTF = features_BTF.masked_fill(is_pad_BT[..., None], 0.0)
        if hidden_BD is None:
            hidden_BD = features_BTF.new_zeros(len(features_BTF), self.cell.hidden_size)
        after = []
        for step, frame_BF in enumerate(features_BTF.unbind(1)):
            before_BD, hidden_BD = hidden_BD, self.cell(frame_BF, hidden_BD)
            if is_pad_BT is not None:
                hidden_BD = torch.where(is_pad_BT[:, step, None], before_BD, hidden_BD)
            after.append(hidden_BD)
        return torch.stack(after, dim=1)


def chunks_of_every_frame(batch: Batch) -> dict[str, Tensor]:
    """Return the action chunks that begin at each frame of each window, as a batch of B·T, window by window.

    Args:
        batch: ``action`` [B, H, A], ``action_is_pad`` [B, H], of more than one frame ``past_action`` [B, T-1, A], and
            ``is_pad`` [B, T], if there is one. A frame before the episode's begin has a chunk of padding.

    Returns:
        ``action`` [B·T, H, A] and ``action_is_pad`` [B·T, H].
    """
    action_BHA, is_pad_BH = batch["action"], batch["action_is_pad"]
    horizon = action_BHA.shape[1]
    past_BTA = batch.get("past_action", action_BHA[:, :0])
    all_BNA = torch.cat([past_BTA, action_BHA], dim=1)
    past_is_pad_BT = is_pad_BH.new_zeros(past_BTA.shape[:2])
    chunk_is_pad_BTH = torch.cat([past_is_pad_BT, is_pad_BH], dim=1).unfold(1, horizon, 1)
    if "is_pad" in batch:
        chunk_is_pad_BTH = chunk_is_pad_BTH | batch["is_pad"][..., None]
    chunks_BTHA = all_BNA.unfold(1, horizon, 1).transpose(2, 3)
    return {"action": chunks_BTHA.flatten(0, 1), "action_is_pad": chunk_is_pad_BTH.flatten(0, 1)}
