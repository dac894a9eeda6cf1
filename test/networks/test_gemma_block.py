import pytest
import torch
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks import AttentionOptions, Expert, ExpertOptions
from vla_ros.networks.attention.block import BlockOptions, GatedFeedForward, RmsNorm


def test_the_published_action_expert_has_311464960_parameters():
    with torch.device("meta"):
        expert = Expert(ExpertOptions(width=1024, mlp_dim=4096), AttentionOptions())
    assert sum(p.numel() for p in expert.parameters()) == 311_464_960


def test_rms_norm_starts_as_a_plain_norm_and_adds_one_to_its_weight():
    norm, x = RmsNorm(6), torch.randn(4, 6)
    plain = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), plain)
    norm.weight.data.fill_(0.5)
    torch.testing.assert_close(norm(x), 1.5 * plain)


def test_the_mlp_gates_with_the_tanh_form_of_gelu():
    options = BlockOptions(width=4, n_heads=1, mlp_dim=8, activation="gelu_tanh", gated=True, bias=False)
    mlp, x = GatedFeedForward(options), torch.randn(3, 4)
    gate = functional.gelu(x @ mlp.gate.weight.T, approximate="tanh")
    torch.testing.assert_close(mlp(x), (gate * (x @ mlp.up.weight.T)) @ mlp.down.weight.T)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_heads": 6, "n_kv_heads": 4}, "n_kv_heads=4 must divide n_heads=6"),
        ({"head_dim": 7}, "head_dim=7 must be even"),
        ({"depth": 0}, "depth=0 must be at least 1"),
    ],
)
def test_contradicting_attention_sizes_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        AttentionOptions(**options)


def test_an_odd_width_is_refused():
    with pytest.raises(ConfigError, match="width=7 must be an even number"):
        ExpertOptions(width=7, mlp_dim=8)
