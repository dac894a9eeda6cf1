import math

import pytest
import torch
from torch.nn import functional

from vla_ros.objectives import UniformBins, cross_entropy


@pytest.mark.parametrize(
    "bins", [UniformBins(), UniformBins(-0.35, 2.5), UniformBins(low=(-1.0, 0.0), high=(1.0, 7.3))]
)
def test_decoding_and_encoding_returns_every_bin(bins):
    every = torch.arange(256)[:, None].expand(-1, 2)
    assert torch.equal(bins.encode(bins.decode(every)), every)


def test_ends_are_the_first_and_last_bin_and_values_beyond_are_clipped():
    bins = UniformBins(-2.0, 2.0)
    assert bins.encode(torch.tensor([-9.0, -2.0, 2.0, 9.0])).tolist() == [0, 0, 255, 255]
    torch.testing.assert_close(bins.decode(torch.tensor([0, 255])), torch.tensor([-2.0, 2.0]))


def test_a_round_trip_is_off_by_half_a_bin_at_most():
    actions, bins = torch.rand(1000) * 2 - 1, UniformBins()
    assert (bins.decode(bins.encode(actions)) - actions).abs().max() <= 1 / 255 + 1e-6


def test_equal_logits_cost_the_logarithm_of_the_count():
    loss = cross_entropy(
        torch.zeros(2, 3, 2, 256), torch.randint(0, 256, (2, 3, 2)), torch.zeros(2, 3, dtype=torch.bool)
    )
    assert loss.item() == pytest.approx(math.log(256), abs=1e-5)


def test_it_is_torchs_over_the_valid_steps():
    logits, bins = torch.randn(2, 3, 2, 8), torch.randint(0, 8, (2, 3, 2))
    is_pad = torch.tensor([[False, False, True], [False, True, True]])
    expected = functional.cross_entropy(logits[~is_pad].flatten(0, 1), bins[~is_pad].flatten())
    torch.testing.assert_close(cross_entropy(logits, bins, is_pad), expected)


def test_padding_never_reaches_the_loss():
    logits, bins = torch.randn(2, 3, 2, 8), torch.randint(0, 8, (2, 3, 2))
    is_pad = torch.tensor([[False, False, True], [False, True, True]])
    broken = logits.masked_fill(is_pad[..., None, None], torch.nan)
    assert cross_entropy(logits, bins, is_pad) == cross_entropy(
        broken, bins.masked_fill(is_pad[..., None], -100), is_pad
    )
    assert cross_entropy(logits, bins, is_pad) != cross_entropy(logits, bins, torch.zeros_like(is_pad))


def test_a_batch_of_padding_alone_has_loss_zero():
    assert cross_entropy(torch.randn(1, 2, 2, 8), torch.zeros(1, 2, 2).long(), torch.ones(1, 2).bool()) == 0.0
