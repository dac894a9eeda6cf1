import pytest
import torch
from torch import nn

from vla_ros.data_types import ConfigError
from vla_ros.networks import TransformerDecoder, TransformerEncoder
from vla_ros.networks.attention.transformer import EncoderLayer

WIDTH, HEADS, MLP, DEPTH = 16, 4, 24, 3


def copy_attention(ours, theirs):
    weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    for part, weight, bias in zip((ours.query, ours.key, ours.value), weights, biases, strict=True):
        part.load_state_dict({"weight": weight, "bias": bias})
    ours.output.load_state_dict(theirs.out_proj.state_dict())


def copy_layer(ours, theirs):
    copy_attention(ours.attention, theirs.self_attn)
    ours.attention_norm.load_state_dict(theirs.norm1.state_dict())
    if hasattr(theirs, "multihead_attn"):
        copy_attention(ours.memory_attention, theirs.multihead_attn)
        ours.memory_norm.load_state_dict(theirs.norm2.state_dict())
    last = theirs.norm3 if hasattr(theirs, "norm3") else theirs.norm2
    ours.mlp_norm.load_state_dict(last.state_dict())
    ours.mlp.inner.load_state_dict(theirs.linear1.state_dict())
    ours.mlp.outer.load_state_dict(theirs.linear2.state_dict())


def perturbed(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def tokens(length, seed=0):
    return torch.randn(2, length, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def encoders():
    theirs = perturbed(nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, MLP, batch_first=True), DEPTH))
    ours = TransformerEncoder(DEPTH, WIDTH, HEADS, MLP, 0.1).eval()
    for our, their in zip(ours.layers, theirs.layers, strict=True):
        copy_layer(our, their)
    return ours, theirs


@pytest.mark.parametrize("masked", [False, True])
def test_encoder_equals_that_of_torch(encoders, masked):
    ours, theirs = encoders
    valid = torch.tensor([[True] * 5, [False, False, True, True, True]]) if masked else None
    expected = theirs(tokens(5), src_key_padding_mask=None if valid is None else ~valid)
    got = ours(tokens(5), valid_BL=valid)
    kept = slice(None) if valid is None else valid
    torch.testing.assert_close(got[kept], expected[kept], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_decoder_equals_that_of_torch(masked):
    theirs = perturbed(nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, MLP, batch_first=True), DEPTH))
    ours = TransformerDecoder(DEPTH, WIDTH, HEADS, MLP, 0.1).eval()
    for our, their in zip(ours.layers, theirs.layers, strict=True):
        copy_layer(our, their)
    valid = torch.tensor([[True] * 5, [False, False, True, True, True]]) if masked else None
    expected = theirs(tokens(4, 1), tokens(5), memory_key_padding_mask=None if valid is None else ~valid)
    torch.testing.assert_close(ours(tokens(4, 1), tokens(5), valid), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_pre_norm_layer_equals_that_of_torch(activation):
    theirs = perturbed(
        nn.TransformerEncoderLayer(WIDTH, HEADS, MLP, activation=activation, batch_first=True, norm_first=True)
    )
    ours = EncoderLayer(WIDTH, HEADS, MLP, activation=activation, pre_norm=True).eval()
    copy_layer(ours, theirs)
    torch.testing.assert_close(ours(tokens(5)), theirs(tokens(5)), rtol=1e-5, atol=1e-5)


def test_walkthrough_sizes_have_the_published_counts():
    with torch.device("meta"):
        encoder, decoder = (cls(4, 512, 8, 2048) for cls in (TransformerEncoder, TransformerDecoder))
    assert sum(p.numel() for p in encoder.parameters()) == 12_609_536
    assert sum(p.numel() for p in decoder.parameters()) == 16_816_128


def test_content_of_an_invalid_token_reaches_no_other(encoders):
    ours, _ = encoders
    valid = torch.tensor([[True, False, True, True, True]] * 2)
    changed = tokens(5)
    changed[:, 1] = 1e4
    got, expected = ours(changed, valid_BL=valid), ours(tokens(5), valid_BL=valid)
    torch.testing.assert_close(got[valid], expected[valid])


def test_positions_enter_every_layer_at_queries_and_keys_and_at_no_value(encoders):
    ours, _ = encoders
    positions = torch.randn(5, WIDTH)
    expected = tokens(5)
    for layer in ours.layers:
        placed = expected + positions
        attended = layer.attention(placed, placed, expected)
        expected = layer.attention_norm(expected + attended)
        expected = layer.mlp_norm(expected + layer.mlp(expected))
    torch.testing.assert_close(ours(tokens(5), positions), expected)


def test_without_positions_the_order_of_tokens_does_not_matter_and_with_them_it_does(encoders):
    ours, _ = encoders
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(ours(tokens(5)[:, order]), ours(tokens(5))[:, order])
    positions = torch.randn(5, WIDTH)
    assert not torch.allclose(ours(tokens(5)[:, order], positions), ours(tokens(5), positions)[:, order], atol=1e-2)


def test_every_decoder_layer_is_used():
    decoder = TransformerDecoder(DEPTH, WIDTH, HEADS, MLP, final_norm=True)
    decoder(tokens(4, 1), tokens(5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
    assert all(layer.mlp.outer.weight.grad.any() for layer in decoder.layers)


def test_dropout_acts_in_training_only():
    encoder = TransformerEncoder(1, WIDTH, HEADS, MLP, 0.5)
    assert not torch.equal(encoder(tokens(5)), encoder(tokens(5)))
    encoder.eval()
    assert torch.equal(encoder(tokens(5)), encoder(tokens(5)))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="n_heads=3 must divide width=16"):
        TransformerEncoder(1, WIDTH, 3, MLP)
