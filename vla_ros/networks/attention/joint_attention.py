"""Several experts, one attention: each segment of a sequence has its own weights, and all meet in every layer.

Which segments there are and who sees whom is the caller's: this file knows tokens, positions and a mask.

Axis legend: B batch, L tokens of all segments, P cached tokens before them, D width (may differ between experts),
N heads, K key-value heads, h head_dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.networks.attention.gemma_block import Expert
from vla_ros.networks.attention.rotary import apply_rotary, rotary_angles


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens that one expert handles; float [B, L, D] of that expert's width."""

    expert: Expert
    tokens_BLD: Tensor


@dataclass(frozen=True)
class KeysValues:
    """Keys (positions applied) and values of some tokens in every layer; never changed once made.

    Attributes:
        layers: Per layer, (keys, values), float [B, P, K, h] each.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def length(self) -> int:
        """P, the number of tokens."""
        return self.layers[0][0].shape[1]

    def followed_by(self, other: "KeysValues") -> "KeysValues":
        """Return the keys and values of these tokens and then the others."""
        pairs = zip(self.layers, other.layers, strict=True)
        return KeysValues(tuple((torch.cat([k, k2], 1), torch.cat([v, v2], 1)) for (k, v), (k2, v2) in pairs))

    def repeated(self, count: int) -> "KeysValues":
        """Return them with each sample of the batch `count` times in a row."""
        if count == 1:
            return self
        return KeysValues(
            tuple((k.repeat_interleave(count, dim=0), v.repeat_interleave(count, dim=0)) for k, v in self.layers)
        )


def joint_attention(
    segments: Sequence[Segment], positions_BL: Tensor, allow_BLM: Tensor, past: KeysValues | None = None
) -> tuple[tuple[Tensor, ...], KeysValues]:
    """Run the segments through all layers of their experts together.

    Args:
        segments: In the order of the sequence. An expert may have several.
        positions_BL: int [B, L], of the tokens of all segments.
        allow_BLM: bool [B, L, P + L], True where a token may attend to a cached or a present one.
        past: Keys and values of tokens before these.

    Returns:
        Each segment's outputs after its expert's final norm, and the keys and values of these tokens alone.
    """
    hidden, made = _run(segments, positions_BL, allow_BLM, past, last_outputs=True)
    outputs = tuple(s.expert.final_norm(tokens_BLD) for s, tokens_BLD in zip(segments, hidden, strict=True))
    return outputs, made


def joint_keys_values(segments: Sequence[Segment], positions_BL: Tensor, allow_BLL: Tensor) -> KeysValues:
    """Return only what later tokens need of these segments; arguments as in `joint_attention`.

    The last layer's attention and MLP, whose results nobody would read, are not run.
    """
    return _run(segments, positions_BL, allow_BLL, None, last_outputs=False)[1]


def _run(
    segments: Sequence[Segment], positions_BL: Tensor, allow_BLM: Tensor, past: KeysValues | None, last_outputs: bool
) -> tuple[list[Tensor], KeysValues]:
    experts = [segment.expert for segment in segments]
    hidden = [segment.tokens_BLD for segment in segments]
    lengths = [tokens_BLD.shape[1] for tokens_BLD in hidden]
    # A padded token may attend to nothing, and a softmax over nothing is NaN, which its gradient would spread. It
    # attends to everything instead: nobody attends to it, so what it gathers is never read.
    allow_BLM = allow_BLM | ~allow_BLM.any(dim=-1, keepdim=True)
    angles = rotary_angles(positions_BL, experts[0].attention.head_dim)
    made = []
    depth = experts[0].attention.depth
    for index in range(depth):
        layers = [expert.layer(index) for expert in experts]
        projected = [layer.project(tokens_BLD) for layer, tokens_BLD in zip(layers, hidden, strict=True)]
        query_BLNh, key_BLKh, value_BLKh = (torch.cat(parts, dim=1) for parts in zip(*projected, strict=True))
        query_BLNh, key_BLKh = (apply_rotary(x, angles) for x in (query_BLNh, key_BLKh))
        made.append((key_BLKh, value_BLKh))
        if index + 1 == depth and not last_outputs:
            break
        if past is not None:
            past_key, past_value = past.layers[index]
            key_BLKh, value_BLKh = torch.cat([past_key, key_BLKh], 1), torch.cat([past_value, value_BLKh], 1)
        attended = torch.split_with_sizes(_attend(query_BLNh, key_BLKh, value_BLKh, allow_BLM), lengths, dim=1)
        hidden = [layer.finish(t, part) for layer, t, part in zip(layers, hidden, attended, strict=True)]
    return hidden, KeysValues(tuple(made))


def _attend(query_BLNh: Tensor, key_BMKh: Tensor, value_BMKh: Tensor, allow_BLM: Tensor) -> Tensor:
    query, key, value = (x.transpose(1, 2) for x in (query_BLNh, key_BMKh, value_BMKh))
    attended_BNLh = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=allow_BLM[:, None], enable_gqa=key.shape[1] != query.shape[1]
    )
    return attended_BNLh.transpose(1, 2)
