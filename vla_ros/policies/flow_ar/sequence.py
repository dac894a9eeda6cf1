"""Who sees whom, and who stands where, when both decoders run in one pass. Booleans and counts only.

The order is [context | flow actions | action tokens]. Both decoders see all of the context; flow actions see each
other; an action token sees itself and the action tokens before it. Neither decoder sees the other, and both begin at
the position after the context, so removing one changes nothing for the other.

Axis legend: B batch, C context, H flow actions, R action tokens, L all of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vla_ros.networks import block_causal_mask, block_starts, hide, token_positions


def joint_layout(
    context_lengths: Sequence[int], valid_BC: Tensor, flow_valid_BH: Tensor, token_valid_BR: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mask, bool [B, L, L], and the positions, int64 [B, L].

    Args:
        context_lengths: Tokens of each segment of the context, adding up to C.
        valid_BC: bool [B, C].
        flow_valid_BH: bool [B, H]; H may be 0.
        token_valid_BR: bool [B, R]; R may be 0.
    """
    context, horizon, count = valid_BC.shape[1], flow_valid_BH.shape[1], token_valid_BR.shape[1]
    valid_BL = torch.cat([valid_BC, flow_valid_BH, token_valid_BR], dim=1)
    starts_L = block_starts([*context_lengths, horizon, *[1] * count], valid_BL.device)
    flow, tokens = slice(context, context + horizon), slice(context + horizon, None)
    allow_BLL = hide(block_causal_mask(starts_L, valid_BL), keys=flow, queries=tokens)
    after_context_BR = token_positions(torch.cat([valid_BC, token_valid_BR], dim=1))[:, context:]
    with_flow = token_positions(torch.cat([valid_BC, flow_valid_BH], dim=1))
    return allow_BLL, torch.cat([with_flow, after_context_BR], dim=1)
