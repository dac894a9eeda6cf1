import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.objectives import l1, magnitude_weight, masked_mean, mse, smooth_l1

LOSSES = [smooth_l1, mse, l1]


def chunk(seed: int, size: int = 3, horizon: int = 5, dim: int = 4):
    generator = torch.Generator().manual_seed(seed)
    predicted, target = torch.randn(2, size, horizon, dim, generator=generator) * 2
    is_pad = torch.rand(size, horizon, generator=generator) < 0.4
    return predicted, target, is_pad


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("content", [0.0, 1e6, float("nan"), float("inf")])
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_content_of_padding_changes_neither_loss_nor_gradient(loss, content, seed):
    predicted, target, is_pad = chunk(seed)
    weight = magnitude_weight(target)
    results = []
    for filled in (target, target.masked_fill(is_pad[..., None], content)):
        leaf = predicted.clone().requires_grad_()
        value = loss(leaf, filled, is_pad, weight_BH1=magnitude_weight(filled) if content == 0.0 else weight)
        value.backward()
        results.append((value.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not results[0][1][is_pad].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_flipping_the_mask_changes_the_loss(loss):
    predicted, target, is_pad = chunk(0)
    assert loss(predicted, target, is_pad) != loss(predicted, target, ~is_pad)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_padding_alone_costs_nothing(loss):
    predicted, target, _ = chunk(0)
    predicted.requires_grad_()
    value = loss(predicted, target, torch.ones(3, 5, dtype=torch.bool))
    value.backward()
    assert value == 0.0
    assert not predicted.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_more_steps_leaves_the_mean_of_the_others(loss):
    predicted, target, _ = chunk(0)
    none = torch.zeros(3, 5, dtype=torch.bool)
    tail = none.clone()
    tail[:, 3:] = True
    assert loss(predicted, target, tail) == pytest.approx(loss(predicted[:, :3], target[:, :3], none[:, :3]).item())


def test_masked_mean_divides_by_the_valid_numbers():
    values = torch.tensor([[[1.0, 3.0], [100.0, 100.0]]])
    assert masked_mean(values, torch.tensor([[False, True]])) == 2.0


def test_losses_without_padding_equal_torch():
    predicted, target, _ = chunk(1)
    none = torch.zeros(3, 5, dtype=torch.bool)
    functional = torch.nn.functional
    torch.testing.assert_close(smooth_l1(predicted, target, none), functional.smooth_l1_loss(predicted, target))
    torch.testing.assert_close(mse(predicted, target, none), functional.mse_loss(predicted, target))
    torch.testing.assert_close(l1(predicted, target, none), functional.l1_loss(predicted, target))


def test_magnitude_weight_multiplies_per_sample():
    # one action per sample, of lengths 0, 1 and 5: weights 1, 3 and 11, of shape (B, 1) within H = 1
    target = torch.tensor([[[0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]], [[0.0, 3.0, 4.0]]])
    weight = magnitude_weight(target)
    assert weight.shape == (3, 1, 1)
    assert weight.flatten().tolist() == [1.0, 3.0, 11.0]
    predicted = target + 0.5  # every error is 0.5, every smooth-L1 0.125
    none = torch.zeros(3, 1, dtype=torch.bool)
    assert smooth_l1(predicted, target, none, weight_BH1=weight) == pytest.approx(0.125 * (1 + 3 + 11) / 3)
