"""The transformer block that every architecture here is made of, with options for norms, masks, positions and gating.

    norm before or after, LayerNorm or RMSNorm  →  attention  →  (attention to a memory)  →  feed-forward, gated or not

`Block` as a whole is a layer of an encoder or decoder. Where several sets of weights meet in one attention
(`joint_attention`), its halves are called apart: `Block.project` before the attention, `Block.finish` after it.

Axis legend: B batch, L tokens, Q queries, K keys, D width, N heads, G key-value heads, h head_dim. In masks, True means
"may be attended to".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError

Activation = Literal["relu", "gelu", "gelu_tanh"]

EARLIER = {
    **{f"{part}.": f"attention.{part}." for part in ("query", "key", "value", "output")},  # π₀'s and GRP's
    "mlp.0.": "mlp.inner.",  # GRP's
    "mlp.2.": "mlp.outer.",
    "mlp_in.": "mlp.inner.",  # the vision transformer's
    "mlp_out.": "mlp.outer.",
    "self_attn.in_proj_": "attention.joined.",  # RT-1's, which was torch's
    "self_attn.out_proj.": "attention.output.",
    "linear1.": "mlp.inner.",
    "linear2.": "mlp.outer.",
    "norm1.": "attention_norm.",
    "norm2.": "mlp_norm.",
}
"""Names of a block's weights in earlier checkpoints → today's."""


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """What a block is made of. The defaults are a layer of "Attention is all you need".

    Attributes:
        width: D.
        n_heads: N, query heads.
        mlp_dim: Hidden width of the feed-forward.
        n_kv_heads: G, heads of keys and values, a divisor of `n_heads`; None: as many.
        head_dim: h; None: D / N.
        dropout: Ratio dropped of attention weights and of what each part adds, in training.
        mlp_dropout: Ratio dropped within the feed-forward; None: as `dropout`.
        norm: ``layer`` or ``rms`` (Gemma's, of 1 + weight).
        norm_first: Normalise what goes into a part, not the sum that comes out of it.
        eps: Of the norms.
        activation: Of the feed-forward.
        gated: ``down(activation(gate(x)) * up(x))`` in place of ``outer(activation(inner(x)))``.
        qkv_bias: Whether queries, keys and values have biases.
        bias: Whether the output projection and the feed-forward have.
        joined: Queries, keys and values by one matrix.
        memory: Whether the block also attends to tokens of another sequence.
        xavier: Start matrices from Xavier's uniform distribution and attention's biases from 0, as the Transformer
            does; else as torch starts a linear layer.

    Raises:
        ConfigError: The heads do not divide the width, or the key-value heads not the heads.
    """

    width: int
    n_heads: int
    mlp_dim: int
    n_kv_heads: int | None = None
    head_dim: int | None = None
    dropout: float = 0.0
    mlp_dropout: float | None = None
    norm: Literal["layer", "rms"] = "layer"
    norm_first: bool = False
    eps: float = 1e-5
    activation: Activation = "relu"
    gated: bool = False
    qkv_bias: bool = True
    bias: bool = True
    joined: bool = False
    memory: bool = False
    xavier: bool = True

    def __post_init__(self) -> None:
        if self.head_dim is None and self.width % self.n_heads:
            raise ConfigError(f"n_heads={self.n_heads} must divide width={self.width}.")
        if self.n_heads % self.kv_heads:
            raise ConfigError(f"n_kv_heads={self.n_kv_heads} must divide n_heads={self.n_heads}.")

    @property
    def kv_heads(self) -> int:
        """G."""
        return self.n_kv_heads or self.n_heads

    @property
    def dim_per_head(self) -> int:
        """H."""
        return self.head_dim or self.width // self.n_heads


class Attention(nn.Module):
    """Multi-head attention, scaled by h^-0.5.

    Attributes:
        recorded: None; or a list to which each pass appends its weights, float [B, N, Q, K].
    """

    recorded: list[Tensor] | None = None

    def __init__(self, options: BlockOptions) -> None:
        super().__init__()
        self.head_dim, self.dropout = options.dim_per_head, options.dropout
        wide, narrow = options.n_heads * self.head_dim, options.kv_heads * self.head_dim
        self.widths = [wide, narrow, narrow]
        if options.joined:
            self.joined = nn.Linear(options.width, sum(self.widths), bias=options.qkv_bias)
        else:
            self.query = nn.Linear(options.width, wide, bias=options.qkv_bias)
            self.key = nn.Linear(options.width, narrow, bias=options.qkv_bias)
            self.value = nn.Linear(options.width, narrow, bias=options.qkv_bias)
        self.output = nn.Linear(wide, options.width, bias=options.bias)
        if options.xavier:
            for linear in self.children():
                _start_as_transformer(linear)

    def project(self, query_BQD: Tensor, key_BKD: Tensor, value_BKD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [B, Q, N, h], keys and values [B, K, G, h]."""
        if hasattr(self, "joined"):
            weights = torch.split_with_sizes(self.joined.weight, self.widths)
            bias = self.joined.bias
            biases = (None, None, None) if bias is None else torch.split_with_sizes(bias, self.widths)
            inputs = (query_BQD, key_BKD, value_BKD)
            made = [functional.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]
        else:
            made = [self.query(query_BQD), self.key(key_BKD), self.value(value_BKD)]
        query, key, value = (part.view(*part.shape[:-1], -1, self.head_dim) for part in made)
        return query, key, value

    def attend(
        self, query_BQNh: Tensor, key_BKGh: Tensor, value_BKGh: Tensor, allow: Tensor | None, dropout: float = 0.0
    ) -> Tensor:
        """Return what each query gathers, [B, Q, N, h].

        Args:
            query_BQNh: As `project` returns them, positions applied.
            key_BKGh: As `project` returns them, positions applied.
            value_BKGh: As `project` returns them.
            allow: bool, broadcast to [B, N, Q, K]; each query must be allowed one key at least. None: all.
            dropout: Ratio of weights dropped.
        """
        query, key, value = (part.transpose(1, 2) for part in (query_BQNh, key_BKGh, value_BKGh))
        if self.recorded is not None:
            self.recorded.append(_weights(query, key, allow))
        gathered = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=allow, dropout_p=dropout, enable_gqa=key.shape[1] != query.shape[1]
        )
        return gathered.transpose(1, 2)

    def forward(self, query_BQD: Tensor, key_BKD: Tensor, value_BKD: Tensor, allow: Tensor | None = None) -> Tensor:
        """Return what each query attends to, [B, Q, D].

        Args:
            query_BQD: Tokens that ask, float.
            key_BKD: Tokens that are asked, float.
            value_BKD: What they answer, float.
            allow: bool [K], [B, K] or [B, Q, K]; each query must be allowed one key at least. None: all.
        """
        query, key, value = self.project(query_BQD, key_BKD, value_BKD)
        gathered = self.attend(query, key, value, broadcast_mask(allow), self.dropout if self.training else 0.0)
        output_BQD: Tensor = self.output(gathered.flatten(2))
        return output_BQD


class FeedForward(nn.Module):
    """``outer(activation(inner(x)))``."""

    def __init__(self, options: BlockOptions) -> None:
        super().__init__()
        self.inner = nn.Linear(options.width, options.mlp_dim, bias=options.bias)
        self.activation = _activation(options.activation)
        self.dropout = nn.Dropout(options.dropout if options.mlp_dropout is None else options.mlp_dropout)
        self.outer = nn.Linear(options.mlp_dim, options.width, bias=options.bias)
        if options.xavier:
            for linear in (self.inner, self.outer):
                nn.init.xavier_uniform_(linear.weight)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return [B, L, D]."""
        updated_BLD: Tensor = self.outer(self.dropout(self.activation(self.inner(tokens_BLD))))
        return updated_BLD


class GatedFeedForward(nn.Module):
    """``down(activation(gate(x)) * up(x))``; with ``gelu_tanh``, Gemma's GeGLU."""

    def __init__(self, options: BlockOptions) -> None:
        super().__init__()
        self.gate = nn.Linear(options.width, options.mlp_dim, bias=options.bias)
        self.up = nn.Linear(options.width, options.mlp_dim, bias=options.bias)
        self.down = nn.Linear(options.mlp_dim, options.width, bias=options.bias)
        self.activation = _activation(options.activation)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        """Return [B, L, D]."""
        updated_BLD: Tensor = self.down(self.activation(self.gate(tokens_BLD)) * self.up(tokens_BLD))
        return updated_BLD


class RmsNorm(nn.Module):
    """Divides by the root mean square and multiplies by 1 + weight, both in float32; the weight starts at zero."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised input, in its own type."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (wide * scale * (1.0 + self.weight.float())).type_as(x)


class Block(nn.Module):
    """Attention, with `BlockOptions.memory` also to another sequence, and feed-forward; each added to its input.

    Args:
        options: What it is made of.
        order: Names of its parts in the order in which their parameters are listed; None: that in which they run.
    """

    attention: Attention
    memory_attention: Attention
    attention_norm: nn.Module
    memory_norm: nn.Module
    mlp: nn.Module
    mlp_norm: nn.Module

    def __init__(self, options: BlockOptions, order: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.options = options
        names = ("attention", "memory", "mlp") if options.memory else ("attention", "mlp")
        for name in names:
            part: nn.Module = _feed_forward(options) if name == "mlp" else Attention(options)
            norm = _norm(options)
            pair = [(f"{name}_attention" if name == "memory" else name, part), (f"{name}_norm", norm)]
            for key, module in reversed(pair) if options.norm_first else pair:
                self.add_module(key, module)
        self.dropout = nn.Dropout(options.dropout)
        if order is not None:
            self._modules = {name: self._modules[name] for name in (*order, "dropout")}

    @staticmethod
    def upgrade_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights under today's names; before, each architecture had a block and names of its own."""
        today = {}
        for name, value in weights.items():
            start = next((earlier for earlier in EARLIER if name.startswith(earlier)), "")
            today[EARLIER.get(start, "") + name.removeprefix(start)] = value
        return today

    def project(self, tokens_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [B, L, N, h], keys and values [B, L, G, h] of a pre-norm block, positions not yet applied."""
        normed_BLD = self.attention_norm(tokens_BLD)
        return self.attention.project(normed_BLD, normed_BLD, normed_BLD)

    def finish(self, tokens_BLD: Tensor, gathered_BLNh: Tensor) -> Tensor:
        """Return the output [B, L, D] of a pre-norm block from its input and what its queries gathered."""
        tokens_BLD = tokens_BLD + self.dropout(self.attention.output(gathered_BLNh.flatten(2)))
        return self._fed_forward(tokens_BLD)

    def forward(
        self,
        tokens_BLD: Tensor,
        positions_LD: Tensor | None = None,
        allow: Tensor | None = None,
        *,
        memory_BKD: Tensor | None = None,
        memory_allow: Tensor | None = None,
        memory_positions_KD: Tensor | None = None,
    ) -> Tensor:
        """Return updated tokens, [B, L, D].

        Args:
            tokens_BLD: float [B, L, D].
            positions_LD: Added to the tokens wherever they are queries or keys, to no value; None adds nothing.
            allow: bool [L], [B, L] or [B, L, L] (queries first): who may be attended to; None: all.
            memory_BKD: The other sequence, float [B, K, D].
            memory_allow: bool [B, K]; None: all.
            memory_positions_KD: Added to the memory's keys; None adds nothing.
        """
        first = self.options.norm_first
        values = self.attention_norm(tokens_BLD) if first else tokens_BLD
        placed = _placed(values, positions_LD)
        tokens_BLD = tokens_BLD + self.dropout(self.attention(placed, placed, values, allow))
        tokens_BLD = tokens_BLD if first else self.attention_norm(tokens_BLD)
        if memory_BKD is not None:
            queries = _placed(self.memory_norm(tokens_BLD) if first else tokens_BLD, positions_LD)
            keys = _placed(memory_BKD, memory_positions_KD)
            seen = self.memory_attention(queries, keys, memory_BKD, memory_allow)
            tokens_BLD = tokens_BLD + self.dropout(seen)
            tokens_BLD = tokens_BLD if first else self.memory_norm(tokens_BLD)
        return self._fed_forward(tokens_BLD)

    def _fed_forward(self, tokens_BLD: Tensor) -> Tensor:
        if self.options.norm_first:
            updated_BLD: Tensor = tokens_BLD + self.dropout(self.mlp(self.mlp_norm(tokens_BLD)))
        else:
            updated_BLD = self.mlp_norm(tokens_BLD + self.dropout(self.mlp(tokens_BLD)))
        return updated_BLD


def broadcast_mask(allow: Tensor | None) -> Tensor | None:
    """Return a mask [K], [B, K] or [B, Q, K] in the form that broadcasts to [B, N, Q, K]."""
    if allow is None:
        return None
    return allow[:, None] if allow.ndim == 3 else allow[..., None, None, :]


def _weights(query_BNQh: Tensor, key_BGKh: Tensor, allow: Tensor | None) -> Tensor:
    key_BNKh = key_BGKh.repeat_interleave(query_BNQh.shape[1] // key_BGKh.shape[1], dim=1)
    scores_BNQK = query_BNQh @ key_BNKh.transpose(-1, -2) * query_BNQh.shape[-1] ** -0.5
    if allow is not None:
        scores_BNQK = scores_BNQK.masked_fill(~allow, float("-inf"))
    return torch.softmax(scores_BNQK, dim=-1)


def _norm(options: BlockOptions) -> nn.Module:
    if options.norm == "rms":
        return RmsNorm(options.width, options.eps)
    return nn.LayerNorm(options.width, eps=options.eps)


def _feed_forward(options: BlockOptions) -> nn.Module:
    return GatedFeedForward(options) if options.gated else FeedForward(options)


def _activation(name: Activation) -> nn.Module:
    return nn.ReLU() if name == "relu" else nn.GELU(approximate="tanh" if name == "gelu_tanh" else "none")


def _start_as_transformer(linear: nn.Module) -> None:
    if isinstance(linear, nn.Linear):
        nn.init.xavier_uniform_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def _placed(tokens_BLD: Tensor, positions_LD: Tensor | None) -> Tensor:
    return tokens_BLD if positions_LD is None else torch.add(tokens_BLD, positions_LD)
