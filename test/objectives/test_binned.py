import pytest
import torch

from vla_ros.objectives import ActionBins, cross_entropy

BINS = ActionBins((-1.0, -0.02, 0.0, 7.0), (1.0, 0.05, 1.0, 8.0), 256, {2: (0.0, 1.0, 2.0)})


def test_every_bin_of_every_range_survives_decoding_and_encoding():
    bins = torch.arange(256)[:, None].expand(256, 4).clone()
    bins[:, 2] %= 3
    assert torch.equal(BINS.encode(BINS.decode(bins)), bins)


def test_each_number_has_its_own_range():
    low, high = BINS.encode(torch.tensor([-5.0, -5.0, 0.0, -5.0])), BINS.encode(torch.tensor([5.0, 5.0, 2.0, 9.0]))
    assert low.tolist() == [0, 0, 0, 0]
    assert high.tolist() == [255, 255, 2, 255]
    torch.testing.assert_close(BINS.decode(low), torch.tensor([-1.0, -0.02, 0.0, 7.0]))
    torch.testing.assert_close(BINS.decode(high), torch.tensor([1.0, 0.05, 2.0, 8.0]))


def test_the_documents_example_is_bin_172():
    assert ActionBins((-1.0,), (1.0,)).encode(torch.tensor([0.35])).tolist() == [172]


def test_a_category_is_the_nearest_of_its_values():
    bins = BINS.encode(torch.tensor([[0.0, 0.0, 0.4, 7.5], [0.0, 0.0, 1.6, 7.5], [0.0, 0.0, -9.0, 7.5]]))
    assert bins[:, 2].tolist() == [0, 2, 0]


def test_classes_beyond_the_categories_are_never_taken():
    logits = BINS.without_unused(torch.zeros(2, 4, 256).index_fill(-1, torch.tensor([200]), 9.0))
    assert logits.argmax(-1)[:, [0, 1, 3]].eq(200).all()
    assert (logits.argmax(-1)[:, 2] < 3).all()
    assert logits.softmax(-1)[:, 2, 3:].eq(0).all()
    plain = ActionBins((-1.0,), (1.0,))
    assert plain.without_unused(logits[:, :1]).data_ptr() == logits.data_ptr()


def test_gradients_are_finite_with_unused_classes():
    logits = torch.randn(2, 1, 4, 256, requires_grad=True)
    bins = BINS.encode(torch.tensor([0.1, 0.0, 2.0, 7.3]).expand(2, 1, 4))
    cross_entropy(BINS.without_unused(logits), bins, torch.tensor([[False], [True]])).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0, 2, 3:].eq(0).all()
    assert logits.grad[1].eq(0).all()


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
def test_leading_axes_are_free(shape):
    assert BINS.decode(BINS.encode(torch.zeros(shape))).shape == shape
