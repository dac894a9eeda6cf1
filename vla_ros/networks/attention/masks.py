"""Who may attend to whom, and where each token stands. Booleans and counts; no attention, no weights.

Axis legend: B batch, L tokens of the sequence, Q queries, K keys. True always means "may attend" or "is there": the
polarity of `scaled_dot_product_attention`, opposite to `nn.MultiheadAttention`'s.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def block_starts(lengths: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Return bool [L], True at the first token of each block; a block of length 0 starts nothing.

    A causal run of tokens is a run of blocks of length 1.
    """
    starts_L = torch.zeros(sum(lengths), dtype=torch.bool, device=device)
    at = 0
    for length in lengths:
        if length:
            starts_L[at] = True
        at += length
    return starts_L


def block_causal_mask(starts_L: Tensor, valid_BL: Tensor) -> Tensor:
    """Let each token attend to its own block and to all blocks before it.

    With ``c = cumsum(starts)``, query q may attend to key k when ``c_k <= c_q`` and both are valid.

    Args:
        starts_L: bool [L], True at the first token of each block.
        valid_BL: bool [B, L], False for padding.

    Returns:
        bool [B, L, L], queries first.
    """
    block_L = starts_L.long().cumsum(0)
    order_LL = block_L[None, :] <= block_L[:, None]
    return order_LL & valid_BL[:, :, None] & valid_BL[:, None, :]


def hide(allow_BLL: Tensor, keys: slice, queries: slice) -> Tensor:
    """Return the mask with the tokens `keys` hidden from the tokens `queries`."""
    hidden_BLL = allow_BLL.clone()
    hidden_BLL[:, queries, keys] = False
    return hidden_BLL


def token_positions(valid_BL: Tensor) -> Tensor:
    """Return each token's position, int64 [B, L]: the number of valid tokens before it.

    Padding takes no position of its own, so where it stands and how much there is of it changes nothing. A padded token
    shares its predecessor's position (−1 at the front); nothing attends to it.
    """
    return valid_BL.long().cumsum(dim=1) - 1
