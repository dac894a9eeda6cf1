import pytest
import torch

from vla_ros.networks.projectors.token_learner import TokenLearner


@pytest.mark.parametrize("weights", ["sigmoid", "softmax"])
def test_learned_tokens_are_weighted_means_of_the_given_ones(weights):
    torch.manual_seed(0)
    learner = TokenLearner(16, 4, weights=weights)
    tokens = torch.randn(3, 9, 16)
    attention = learner.attention(tokens)
    assert attention.shape == (3, 4, 9)
    assert (attention > 0).all()
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(3, 4))
    torch.testing.assert_close(learner(tokens), torch.einsum("nkp,npd->nkd", attention, tokens))


def test_published_token_learner_has_34376_parameters():
    assert sum(p.numel() for p in TokenLearner(512, 8).parameters()) == 34_376


@pytest.mark.parametrize("weights", ["sigmoid", "softmax"])
def test_the_order_of_the_given_tokens_does_not_matter(weights):
    torch.manual_seed(0)
    learner, tokens = TokenLearner(16, 4, weights=weights), torch.randn(1, 9, 16)
    torch.testing.assert_close(learner(tokens), learner(tokens[:, torch.randperm(9)]))


def test_weights_are_finite_where_every_sigmoid_vanishes():
    learner = TokenLearner(16, 4)
    learner.score[-1].bias.data.fill_(-200.0)
    assert learner(torch.randn(1, 9, 16)).isfinite().all()


def test_softmax_can_point_at_one_place():
    learner = TokenLearner(2, 1, hidden_dim=2, weights="softmax")
    for parameter in learner.score.parameters():
        parameter.data.zero_()
    learner.score[0].weight.data[0, 0] = 30.0
    learner.score[-1].weight.data[0, 0] = 30.0
    tokens = torch.tensor([[[-1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]])
    torch.testing.assert_close(learner(tokens), tokens[:, 1:2])
