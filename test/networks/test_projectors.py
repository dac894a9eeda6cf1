import pytest
import torch
import transformers

from vla_ros.data_types import ConfigError
from vla_ros.networks.projectors import (
    AttentionPoolingProjector,
    MLPProjector,
    PerceiverProjector,
    PixelShuffleProjector,
    build_projector,
)
from vla_ros.registry import PROJECTORS


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_guides_shapes():
    tokens = torch.randn(2, 196, 24)
    assert MLPProjector(24, 32)(tokens).shape == (2, 196, 32)
    assert AttentionPoolingProjector(24, 32)(tokens).shape == (2, 64, 32)
    assert PerceiverProjector(24, 32)(tokens).shape == (2, 64, 32)
    assert PixelShuffleProjector(24, 32)(tokens).shape == (2, 49, 32)


@pytest.mark.parametrize("name", PROJECTORS.built_in)
def test_every_projector_says_how_many_tokens_it_makes_and_learns(name):
    built = build_projector(name, 12, 16)
    tokens = torch.randn(2, 16, 12, requires_grad=True)
    projected = built(tokens)
    assert projected.shape == (2, built.n_tokens(16), 16)
    projected.square().sum().backward()
    assert all(parameter.grad is not None for parameter in built.parameters())
    assert tokens.grad.abs().sum() > 0


@torch.no_grad()
def test_pixel_shuffle_equals_smolvlms_connector():
    vision = {"hidden_size": 12, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "llama", "hidden_size": 20, "intermediate_size": 20, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64, "pad_token_id": 0}
    config = transformers.SmolVLMConfig(
        vision_config={**vision, "image_size": 48, "patch_size": 8}, text_config=text, scale_factor=3
    )
    connector = transformers.models.smolvlm.modeling_smolvlm.SmolVLMConnector(config)
    ours = PixelShuffleProjector(12, 20, scale=3)
    ours.proj.weight.copy_(connector.modality_projection.proj.weight)
    tokens = torch.randn(2, 36, 12)
    assert torch.equal(ours(tokens), connector(tokens))


def test_pixel_shuffle_joins_neighbours_in_both_directions_of_any_grid():
    projector = PixelShuffleProjector(1, 4, scale=2, grid=(2, 4))
    projector.proj.weight.data.copy_(torch.eye(4))
    joined = projector(torch.arange(8.0).view(1, 8, 1))
    assert joined.tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]


@torch.no_grad()
@pytest.mark.parametrize("name", ["attention_pool", "perceiver"])
def test_tokens_that_are_not_valid_change_nothing(name):
    built = build_projector(name, 12, 16).eval()
    tokens, valid = torch.randn(2, 9, 12), torch.ones(2, 9, dtype=torch.bool)
    valid[1, 6:] = False
    padded = tokens.clone()
    padded[1, 6:] = torch.nan
    torch.testing.assert_close(built(padded, valid)[1:], built(tokens[1:, :6]))
    torch.testing.assert_close(built(padded, valid)[:1], built(tokens[:1]))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("mlp2", {}, "Did you mean 'mlp'"),
        ("mlp", {"layers": 3}, "projector 'mlp' does not take layers"),
        ("perceiver", {"num_latents": 0}, "num_latents=0 must be at least 1"),
        ("attention_pool", {"num_heads": 5}, "n_heads=5 must divide width=16"),
        ("pixel_shuffle", {"scale": 3}, r"scale=3 must divide the grid of 4×4 tokens"),
        ("pixel_shuffle", {"grid": (3, 5)}, r"16 tokens are no grid of 3×5; give the grid"),
    ],
)
def test_projectors_that_cannot_be_are_refused(name, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_projector(name, 12, 16, **options)(torch.randn(1, 16, 12))
