"""Attention mask and positions of a sequence in blocks, and its first part: embedded, encoded once, and gone on from.

Axis legend: B batch, C tokens of the context, L tokens of the sequence or after the context, D width. In masks, True
means "may attend" or "is there": the polarity of `scaled_dot_product_attention`, opposite to `nn.MultiheadAttention`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_ros.networks.attention.joint_attention import KeysValues, Segment, joint_attention, joint_keys_values


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


@dataclass(frozen=True)
class Context:
    """Embedded segments; each sees itself and those before it.

    Attributes:
        segments: In order.
        valid_BC: bool [B, C], over the tokens of all segments.
    """

    segments: tuple[Segment, ...]
    valid_BC: Tensor

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each segment."""
        return tuple(segment.tokens_BLD.shape[1] for segment in self.segments)


@dataclass(frozen=True)
class EncodedContext:
    """What later tokens need of a context; never changed once made, so every denoising step meets the same one.

    Attributes:
        keys_values: Of all layers.
        valid_BC: bool [B, C].
    """

    keys_values: KeysValues
    valid_BC: Tensor

    def repeated(self, count: int) -> "EncodedContext":
        """Return it with each sample `count` times in a row."""
        if count == 1:
            return self
        return EncodedContext(self.keys_values.repeated(count), self.valid_BC.repeat_interleave(count, dim=0))

    def followed_by(self, keys_values: KeysValues, valid_BL: Tensor) -> "EncodedContext":
        """Return a longer context: this one and the tokens that `continue_context` returned keys and values of."""
        return EncodedContext(self.keys_values.followed_by(keys_values), torch.cat([self.valid_BC, valid_BL], dim=1))


def encode_context(context: Context) -> EncodedContext:
    """Run a context through its experts once."""
    allow_BCC = block_causal_mask(block_starts(context.lengths, context.valid_BC.device), context.valid_BC)
    keys_values = joint_keys_values(context.segments, token_positions(context.valid_BC), allow_BCC)
    return EncodedContext(keys_values, context.valid_BC)


def continue_context(
    encoded: EncodedContext, segment: Segment, valid_BL: Tensor, block_lengths: Sequence[int]
) -> tuple[Tensor, KeysValues]:
    """Run tokens that follow an encoded context; they see all of it, their own block, and their blocks before it.

    Args:
        encoded: What they follow.
        segment: The tokens.
        valid_BL: bool [B, L].
        block_lengths: Adding up to L: one block for tokens that see each other, ones for causal tokens.

    Returns:
        The segment's outputs, float [B, L, D], and its keys and values alone.
    """
    length = encoded.valid_BC.shape[1]
    valid = torch.cat([encoded.valid_BC, valid_BL], dim=1)
    allow = block_causal_mask(block_starts([length, *block_lengths], valid.device), valid)[:, length:]
    positions_BL = token_positions(valid)[:, length:]
    (outputs_BLD,), keys_values = joint_attention([segment], positions_BL, allow, encoded.keys_values)
    return outputs_BLD, keys_values
