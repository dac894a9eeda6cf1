"""A memory of an episode: tokens kept on a time grid of their own, read through a gate that starts closed.

The buffer is a value: it is passed in and returned, and whoever owns the episode drops it at its start, at a new
instruction and when the clock goes back. Slots are ordered by age, oldest first.

Merging neighbours at capacity follows MemoryVLA (Shi et al. 2025, arXiv:2508.19236).

Axis legend: B batch, K slots, N queries, D width.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks.fusion import CrossAttention

Overflow = Literal["merge", "fifo"]


class Memory(NamedTuple):
    """What is remembered.

    Attributes:
        slots_BKD: float [B, K, D], oldest first; zero where empty.
        age_BK: float [B, K], s since the slot was written (a merged slot: the weighted mean of its parts).
        count_BK: float [B, K], tokens merged into each slot; 0 where empty.
        since_B: float [B], s since the last write; infinite before the first.
    """

    slots_BKD: Tensor
    age_BK: Tensor
    count_BK: Tensor
    since_B: Tensor


class MemoryBuffer(nn.Module):
    """Remembers one pooled token every `period_s`, and lets tokens read what is remembered.

    Args:
        width: D.
        capacity: K.
        period_s: Time between two writes, s.
        overflow: At capacity, merge the two most similar neighbours, or drop the oldest.
        n_heads: Of the attention that reads.

    Raises:
        ConfigError: Capacity below 2 for merging or 1, or no period.
    """

    def __init__(
        self,
        width: int,
        capacity: int = 16,
        period_s: float = 0.5,
        overflow: Overflow = "merge",
        n_heads: int = 4,
    ) -> None:
        super().__init__()
        if capacity < (2 if overflow == "merge" else 1):
            raise ConfigError(f"memory capacity={capacity} is too small; 'merge' needs 2, 'fifo' 1.")
        if not period_s > 0:
            raise ConfigError(f"memory period_s={period_s:g} must be above 0.")
        self.width, self.capacity, self.period_s, self.overflow = width, capacity, period_s, overflow
        self.age = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))
        self.read = CrossAttention(width, n_heads)
        # a memory policy begins as the memoryless one
        self.gate = nn.Parameter(torch.zeros(()))

    def empty(self, batch: int, like: Tensor) -> Memory:
        """Return the memory of an episode's start, on the device and of the type of `like`."""
        return Memory(
            like.new_zeros(batch, self.capacity, self.width),
            like.new_zeros(batch, self.capacity),
            like.new_zeros(batch, self.capacity),
            like.new_full((batch,), torch.inf),
        )

    def forward(self, tokens_BND: Tensor, memory: Memory) -> Tensor:
        """Return tokens that have read the memory, float [B, N, D]; unchanged while empty or the gate is closed."""
        aged_BKD = memory.slots_BKD + self.age(torch.log1p(memory.age_BK)[..., None])
        read_BND = self.read(tokens_BND, aged_BKD, memory.count_BK > 0)
        updated_BND: Tensor = tokens_BND + torch.tanh(self.gate) * read_BND
        return updated_BND

    def write(self, memory: Memory, token_BD: Tensor, elapsed_s: float | Tensor) -> Memory:
        """Let time pass; remember a token where `period_s` has passed since the last one, or there is none yet.

        Args:
            memory: As it was at the last call.
            token_BD: float [B, D]: the pooled tokens of now.
            elapsed_s: s since the last call, a number or float [B].
        """
        elapsed_B = torch.as_tensor(elapsed_s, dtype=token_BD.dtype, device=token_BD.device).expand(len(token_BD))
        since_B = memory.since_B + elapsed_B
        aged = Memory(
            memory.slots_BKD,
            torch.where(memory.count_BK > 0, memory.age_BK + elapsed_B[:, None], 0.0),
            memory.count_BK,
            since_B,
        )
        written = self._appended(aged, token_BD)
        # a period that ends a rounding error after the tick has ended at it
        due_B = since_B >= self.period_s * (1 - 1e-4)
        return Memory(*(_where(due_B, new, old) for new, old in zip(written, aged, strict=True)))

    def _appended(self, memory: Memory, token_BD: Tensor) -> Memory:
        """Return the memory with a token more; made room for where it was full."""
        full_B = memory.count_BK[:, -1] > 0
        room = self._merged(memory) if self.overflow == "merge" else _without(memory, torch.zeros_like(full_B).long())
        memory = Memory(*(_where(full_B, new, old) for new, old in zip(room, memory, strict=True)))
        free_B = (memory.count_BK > 0).sum(dim=1)
        here_BK = functional.one_hot(free_B, self.capacity).to(torch.bool)
        return Memory(
            torch.where(here_BK[..., None], token_BD[:, None], memory.slots_BKD),
            torch.where(here_BK, 0.0, memory.age_BK),
            torch.where(here_BK, 1.0, memory.count_BK),
            torch.zeros_like(memory.since_B),
        )

    def _merged(self, memory: Memory) -> Memory:
        """Return the memory with the most similar neighbours made one, weighted by what each already holds."""
        similarity = functional.cosine_similarity(memory.slots_BKD[:, :-1], memory.slots_BKD[:, 1:], dim=-1)
        first_B = similarity.argmax(dim=1)
        pair_B2 = torch.stack([first_B, first_B + 1], dim=1)
        counts_B2 = memory.count_BK.gather(1, pair_B2)
        weights_B2 = counts_B2 / counts_B2.sum(dim=1, keepdim=True).clamp(min=1)
        slot_BD = (
            memory.slots_BKD.gather(1, pair_B2[..., None].expand(-1, -1, self.width)) * weights_B2[..., None]
        ).sum(1)
        age_B = (memory.age_BK.gather(1, pair_B2) * weights_B2).sum(1)
        here_BK = functional.one_hot(first_B, self.capacity).to(torch.bool)
        merged = Memory(
            torch.where(here_BK[..., None], slot_BD[:, None], memory.slots_BKD),
            torch.where(here_BK, age_B[:, None], memory.age_BK),
            torch.where(here_BK, counts_B2.sum(1, keepdim=True), memory.count_BK),
            memory.since_B,
        )
        return _without(merged, first_B + 1)


def _without(memory: Memory, slot_B: Tensor) -> Memory:
    """Return the memory without one slot of each sample; later ones move up, and the last is empty."""
    capacity = memory.count_BK.shape[1]
    order_BK = torch.arange(capacity, device=slot_B.device).expand(len(slot_B), -1)
    order_BK = (order_BK + (order_BK >= slot_B[:, None])).clamp(max=capacity - 1)
    last_BK = (torch.arange(capacity, device=slot_B.device) == capacity - 1).expand(len(slot_B), -1)
    slots_BKD = memory.slots_BKD.gather(1, order_BK[..., None].expand(-1, -1, memory.slots_BKD.shape[-1]))
    return Memory(
        slots_BKD.masked_fill(last_BK[..., None], 0.0),
        memory.age_BK.gather(1, order_BK).masked_fill(last_BK, 0.0),
        memory.count_BK.gather(1, order_BK).masked_fill(last_BK, 0.0),
        memory.since_B,
    )


def _where(choose_B: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(choose_B.reshape(-1, *[1] * (new.ndim - 1)), new, old)
