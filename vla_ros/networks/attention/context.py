"""The part of a sequence that is there before any action: embedded, encoded once, and gone on from.

Axis legend: B batch, C tokens of the context, L tokens after it, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_ros.networks.attention.joint_attention import KeysValues, Segment, joint_attention, joint_keys_values
from vla_ros.networks.attention.masks import block_causal_mask, block_starts, token_positions


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
