"""Several experts, one attention: each segment of a sequence has its own weights, and all meet in every layer.

An expert is a Gemma: pre-norm blocks with RMSNorm, gated feed-forwards and no biases, whose weights correspond one to
one to transformers' Gemma; positions are rotary. Segments and masks come from the caller.

Axis legend: B batch, L tokens of all segments, P cached tokens before them, D width (may differ between experts),
N heads, K key-value heads, h head_dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.block import Block, BlockOptions, RmsNorm
from vla_ros.schema import About, Checked


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(Checked):
    """What experts that meet in one attention have in common."""

    depth: Annotated[int, About("Layers.", at_least=1)] = 18
    n_heads: Annotated[int, About("Query heads.", at_least=1)] = 8
    n_kv_heads: Annotated[int, About("Key and value heads; a divisor of `n_heads`.", at_least=1)] = 1
    head_dim: Annotated[int, About("Numbers per head, even.", at_least=1)] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(f"attention: n_kv_heads={self.n_kv_heads} must divide n_heads={self.n_heads}.")
        if self.head_dim % 2:
            raise ConfigError(f"attention: head_dim={self.head_dim} must be even; rotary positions turn pairs.")


@dataclass(frozen=True, kw_only=True)
class ExpertOptions(Checked):
    """What experts may differ in."""

    width: Annotated[int, About("D, numbers per token; even.")]
    mlp_dim: Annotated[int, About("Hidden width of each layer's MLP.", at_least=1)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 2 or self.width % 2:
            raise ConfigError(f"expert: width={self.width} must be an even number of at least 2.")


class ExpertBlock(Block):
    """A block whose halves run apart, around an attention that several experts share."""

    checkpointed_methods: ClassVar[tuple[str, ...]] = ("project", "finish")


class Expert(nn.Module):
    """A stack of blocks and a final norm: one set of weights for some of a sequence's tokens.

    Args:
        options: Its own sizes.
        attention: The sizes it shares with the experts that it meets.
    """

    def __init__(self, options: ExpertOptions, attention: AttentionOptions) -> None:
        super().__init__()
        self.options, self.attention = options, attention
        block = BlockOptions(
            width=options.width,
            mlp_dim=options.mlp_dim,
            n_heads=attention.n_heads,
            n_kv_heads=attention.n_kv_heads,
            head_dim=attention.head_dim,
            norm="rms",
            norm_first=True,
            eps=1e-6,
            activation="gelu_tanh",
            gated=True,
            qkv_bias=False,
            bias=False,
            xavier=False,
        )
        self.layers = nn.ModuleList(ExpertBlock(block) for _ in range(attention.depth))
        self.final_norm = RmsNorm(options.width)

    def layer(self, index: int) -> Block:
        """Return layer `index`, counted from 0."""
        return cast("Block", self.layers[index])


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
        attended = layers[0].attention.attend(query_BLNh, key_BLKh, value_BLKh, allow_BLM[:, None])
        parts = torch.split_with_sizes(attended, lengths, dim=1)
        hidden = [layer.finish(t, part) for layer, t, part in zip(layers, hidden, parts, strict=True)]
    return hidden, KeysValues(tuple(made))


ROPE_BASE = 10_000.0


@dataclass(frozen=True)
class RotaryAngles:
    """Cosines and sines of the angles of some tokens, float32 [B, L, 1, h / 2]; the same in every layer."""

    cos: Tensor
    sin: Tensor


def rotary_angles(positions_BL: Tensor, head_dim: int, base: float = ROPE_BASE) -> RotaryAngles:
    """Return the angles ``position * base ** (-2 i / head_dim)`` for i up to half of an even head_dim.

    Args:
        positions_BL: int [B, L].
        head_dim: h.
        base: Sets the slowest angle.
    """
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions_BL.device) / head_dim
    angle = positions_BL[:, :, None, None].float() / base**exponent
    return RotaryAngles(angle.cos(), angle.sin())


def apply_rotary(x_BLNh: Tensor, angles: RotaryAngles) -> Tensor:
    """Turn queries or keys, float [B, L, N, h], by their tokens' angles, in float32.

    Number i of the first half and number i of the second half form a pair: Gemma's and LLaMA's convention.
    """
    half = x_BLNh.shape[-1] // 2
    wide = x_BLNh.float()
    first, second = wide[..., :half], wide[..., half:]
    turned = torch.cat([first * angles.cos - second * angles.sin, second * angles.cos + first * angles.sin], dim=-1)
    return turned.type_as(x_BLNh)
