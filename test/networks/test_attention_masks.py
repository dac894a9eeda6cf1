import pytest
import torch

from vla_ros.networks import block_causal_mask, block_starts, hide, token_positions


def valid(batch_size, length):
    return torch.ones(batch_size, length, dtype=torch.bool)


def test_a_token_sees_its_block_and_those_before_it():
    allow = block_causal_mask(block_starts([2, 1, 2]), valid(1, 5))[0].int().tolist()
    assert allow == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]


def test_blocks_of_one_token_are_causal():
    allow = block_causal_mask(block_starts([1] * 6), valid(1, 6))[0]
    torch.testing.assert_close(allow, torch.ones(6, 6, dtype=torch.bool).tril())


def test_the_mask_is_the_rule_on_the_cumulative_sum_of_starts_and_on_validity():
    generator = torch.Generator().manual_seed(0)
    starts = torch.rand(12, generator=generator) < 0.4
    is_valid = torch.rand(3, 12, generator=generator) < 0.7
    allow = block_causal_mask(starts, is_valid)
    total = torch.cumsum(starts.int(), 0)
    for b in range(3):
        for query in range(12):
            for key in range(12):
                expected = total[key] <= total[query] and is_valid[b, query] and is_valid[b, key]
                assert allow[b, query, key] == expected


def test_an_empty_block_changes_nothing():
    torch.testing.assert_close(block_starts([2, 0, 3]), block_starts([2, 3]))


def test_hidden_keys_are_hidden_from_those_queries_only():
    allow = hide(block_causal_mask(block_starts([4]), valid(1, 4)), keys=slice(1, 2), queries=slice(2, 4))[0].int()
    assert allow.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1]]


@pytest.mark.parametrize(
    ("is_valid", "expected"),
    [([1, 1, 1], [0, 1, 2]), ([1, 0, 0, 1], [0, 0, 0, 1]), ([0, 1, 1, 0, 1], [-1, 0, 1, 1, 2])],
)
def test_positions_count_the_valid_tokens_before(is_valid, expected):
    assert token_positions(torch.tensor([is_valid]).bool())[0].tolist() == expected
