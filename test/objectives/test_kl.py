import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vla_ros.objectives import kl_to_standard_normal, sample_gaussian


def test_divergence_equals_that_of_torch_summed_over_the_latent():
    mean, log_variance = torch.randn(2, 5, 7)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_the_standard_normal_diverges_by_nothing_from_itself():
    assert kl_to_standard_normal(torch.zeros(3, 4), torch.zeros(3, 4)) == 0.0


def test_samples_have_the_mean_and_deviation_asked_for():
    mean, log_variance = torch.full((20_000, 1), 2.0), torch.full((20_000, 1), 2 * torch.tensor(0.5).log().item())
    drawn = sample_gaussian(mean, log_variance, torch.Generator().manual_seed(0))
    assert drawn.mean().item() == pytest.approx(2.0, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.02)


def test_equal_generators_draw_equal_samples_through_which_gradients_flow():
    mean, log_variance = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    first, second = (sample_gaussian(mean, log_variance, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    first.sum().backward()
    assert torch.equal(mean.grad, torch.ones(2, 3))
    torch.testing.assert_close(log_variance.grad, second.detach() / 2)
