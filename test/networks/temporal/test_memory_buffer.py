"""The memory: when it writes, what it forgets, that it begins closed, and that its gradients reach the first tick."""

import pytest
import torch
from torch import Tensor

from vla_ros.data_types import ConfigError
from vla_ros.networks.temporal import Memory, MemoryBuffer

WIDTH = 8


def buffer(**options: object) -> MemoryBuffer:
    torch.manual_seed(0)
    return MemoryBuffer(WIDTH, n_heads=2, **options)  # type: ignore[arg-type]


def written(memory_buffer: MemoryBuffer, tokens: Tensor, step_s: float) -> Memory:
    memory = memory_buffer.empty(tokens.shape[1], tokens)
    for token in tokens:
        memory = memory_buffer.write(memory, token, step_s)
    return memory


def test_the_first_token_is_written_at_once_and_the_next_a_period_later() -> None:
    tokens = torch.randn(11, 1, WIDTH)
    memory = written(buffer(capacity=8, period_s=0.5), tokens, 0.1)
    assert memory.count_BK[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    torch.testing.assert_close(memory.slots_BKD[0, :3], tokens[[0, 5, 10], 0])
    assert memory.age_BK[0].tolist() == pytest.approx([1.0, 0.5, 0.0, 0, 0, 0, 0, 0], abs=1e-5)


def test_fifo_drops_the_oldest() -> None:
    tokens = torch.randn(7, 1, WIDTH)
    memory = written(buffer(capacity=4, period_s=0.5, overflow="fifo"), tokens, 0.5)
    torch.testing.assert_close(memory.slots_BKD[0], tokens[3:, 0])
    assert memory.age_BK[0].tolist() == pytest.approx([1.5, 1.0, 0.5, 0.0])


def test_merging_averages_the_most_similar_neighbours_by_what_they_hold() -> None:
    base = torch.eye(WIDTH)
    tokens = torch.stack([base[0], base[1], base[1] * 3, base[2], base[3], base[1] * 2])[:, None]
    memory = written(buffer(capacity=4, period_s=1.0), tokens, 1.0)
    # the fifth token merges slots 1 and 2 (same direction) to 2·e1; the sixth merges the first equal pair that is left
    assert memory.count_BK[0].sum() == 6
    assert memory.count_BK[0, -1] == 1
    torch.testing.assert_close(memory.slots_BKD[0, -1], tokens[-1, 0])
    five = written(buffer(capacity=4, period_s=1.0), tokens[:5], 1.0)
    torch.testing.assert_close(five.slots_BKD[0], torch.stack([base[0], base[1] * 2, base[2], base[3]]))
    assert five.count_BK[0].tolist() == [1, 2, 1, 1]
    assert five.age_BK[0].tolist() == [4.0, 2.5, 1.0, 0.0]


def test_it_begins_as_if_there_were_no_memory() -> None:
    memory_buffer, tokens = buffer(), torch.randn(3, 5, WIDTH)
    memory = written(memory_buffer, torch.randn(4, 3, WIDTH), 1.0)
    assert torch.equal(memory_buffer(tokens, memory), tokens)


def test_an_empty_memory_is_not_read_even_with_the_gate_open() -> None:
    memory_buffer, tokens = buffer(), torch.randn(2, 5, WIDTH)
    memory_buffer.gate.data.fill_(1.0)
    empty = memory_buffer.empty(2, tokens)
    assert torch.equal(memory_buffer(tokens, empty), tokens)
    full = memory_buffer.write(empty, torch.randn(2, WIDTH), 0.1)
    assert not torch.allclose(memory_buffer(tokens, full), tokens)


def test_samples_of_a_batch_keep_their_own_time() -> None:
    memory_buffer, tokens = buffer(capacity=3, period_s=0.5), torch.randn(6, 2, WIDTH)
    together = memory_buffer.empty(2, tokens)
    steps = torch.tensor([0.5, 0.2])
    for token in tokens:
        together = memory_buffer.write(together, token, steps)
    for row in range(2):
        alone = memory_buffer.empty(1, tokens)
        for token in tokens:
            alone = memory_buffer.write(alone, token[row : row + 1], float(steps[row]))
        for part, other in zip(together, alone, strict=True):
            torch.testing.assert_close(part[row : row + 1], other)


@pytest.mark.parametrize("overflow", ["merge", "fifo"])
def test_gradients_reach_what_was_seen_first_while_it_is_remembered(overflow: str) -> None:
    memory_buffer = buffer(capacity=16, period_s=0.5, overflow=overflow)
    memory_buffer.gate.data.fill_(0.5)
    tokens = torch.randn(16, 1, WIDTH, requires_grad=True)
    memory = written(memory_buffer, tokens, 0.5)
    memory_buffer(torch.randn(1, 2, WIDTH), memory).square().sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.flatten(1).any(dim=1).all()


def test_with_a_closed_gate_the_gate_itself_can_learn() -> None:
    memory_buffer = buffer()
    memory = written(memory_buffer, torch.randn(2, 1, WIDTH), 1.0)
    memory_buffer(torch.randn(1, 2, WIDTH), memory).square().sum().backward()
    assert memory_buffer.gate.grad is not None
    assert memory_buffer.gate.grad != 0


@pytest.mark.parametrize("options", [{"capacity": 1}, {"capacity": 0, "overflow": "fifo"}, {"period_s": 0.0}])
def test_a_memory_that_holds_nothing_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        buffer(**options)
