import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks.language.language_model import LanguageModel, LanguageModelConfig
from vla_ros.networks.language.readouts import build_readout
from vla_ros.networks.language.vision_language import VisionLanguageTrunk
from vla_ros.registry import READOUTS

B, L, D, H, LAYERS = 3, 6, 16, 4, 2
SIZES = {"hidden_size": D, "intermediate_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 1, "vocab_size": 40}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def states():
    return [torch.randn(B, L, D) for _ in range(LAYERS)]


def valid_right_padded():
    return torch.arange(L).expand(B, L) < torch.tensor([[6], [4], [1]])


def test_the_last_token_that_is_there_is_read_and_no_padding():
    said = states()
    features = build_readout("last_valid", D, LAYERS, H)(said, valid_right_padded())
    assert torch.equal(features[:, 0], torch.stack([said[-1][0, 5], said[-1][1, 3], said[-1][2, 0]]))


@pytest.mark.parametrize("name", ["last_valid", "attention_pool", "layerwise"])
def test_padding_changes_no_feature(name):
    readout, said, valid = build_readout(name, D, LAYERS, H).eval(), states(), valid_right_padded()
    other = [torch.where(valid[..., None], state, torch.nan) for state in said]
    assert torch.equal(readout(said, valid), readout(other, valid))
    cut = [state[1:2, :4] for state in said]
    torch.testing.assert_close(readout(said, valid)[1:2], readout(cut, valid[1:2, :4]), rtol=1e-4, atol=1e-5)


def test_action_queries_are_read_where_they_were_appended():
    readout, said = build_readout("action_queries", D, LAYERS, H), states()
    assert readout.queries().shape == (H, D)
    assert torch.equal(readout(said, valid_right_padded()), said[-1][:, -H:])


def test_the_layerwise_readout_reads_every_layer():
    readout, said, valid = build_readout("layerwise", D, LAYERS, H).eval(), states(), valid_right_padded()
    before = readout(said, valid)
    for layer in range(LAYERS):
        changed = [state + 1.0 * (index == layer) * torch.randn_like(state) for index, state in enumerate(said)]
        assert not torch.allclose(readout(changed, valid), before)
    with pytest.raises(ConfigError, match="3 layers given, it was built for 2"):
        readout([*said, said[0]], valid)


def trunk(readout, layout="llava"):
    language = LanguageModel(LanguageModelConfig(sizes=SIZES, freeze=False))
    return VisionLanguageTrunk(language, build_readout(readout, D, LAYERS, H), [2, 3], 6, layout)


def given():
    return torch.randn(B, 5, D), torch.randint(0, 40, (B, 6)), valid_right_padded()


@pytest.mark.parametrize("layout", ["llava", "prismatic", "smolvla", "paligemma"])
@pytest.mark.parametrize("name", READOUTS.built_in)
def test_any_readout_of_any_layout_gives_features_that_learn_of_image_and_text(name, layout):
    built, (image, text, valid) = trunk(name, layout), given()
    image.requires_grad_()
    features = built(image, text, valid)
    assert features.shape == (B, built.n_tokens, built.width)
    features.square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert built.language.model.embed_tokens.weight.grad.abs().sum() > 0


@torch.no_grad()
@pytest.mark.parametrize("layout", ["llava", "paligemma"])
@pytest.mark.parametrize("name", READOUTS.built_in)
def test_what_stands_in_padding_or_for_an_absent_image_changes_nothing(name, layout):
    built, (image, text, valid) = trunk(name, layout).eval(), given()
    image_valid = torch.tensor([[True] * 5, [True, True, False, False, False], [True] * 5])
    other_text, other_image = text.clone(), image.clone()
    other_text[~valid], other_image[~image_valid] = 7, torch.nan
    before, after = built(image, text, valid, image_valid), built(other_image, other_text, valid, image_valid)
    assert torch.equal(before, after)
    wider = torch.cat([other_text, torch.zeros_like(other_text)], dim=1)
    longer = VisionLanguageTrunk(built.language, built.readout, [2, 3], 12, layout)
    longer.beginning = built.beginning
    more = longer(image, wider, torch.cat([valid, torch.zeros_like(valid)], dim=1), image_valid)
    torch.testing.assert_close(more, before, rtol=1e-4, atol=1e-5)


def test_a_batch_of_different_lengths_is_its_rows_alone():
    built, (image, text, valid) = trunk("action_queries").eval(), given()
    with torch.no_grad():
        together = built(image, text, valid)
        alone = torch.cat([built(image[i : i + 1], text[i : i + 1], valid[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused():
    built, (image, text, valid) = trunk("last_valid"), given()
    with pytest.raises(ConfigError, match="4 image and 6 text tokens; expected 5 and 6"):
        built(image[:, :4], text, valid)
    with pytest.raises(ConfigError, match="the readout is of width 8, the language model of 16"):
        VisionLanguageTrunk(built.language, build_readout("last_valid", 8, LAYERS, H), [5], 6)
    with pytest.raises(ConfigError, match=r"'last_vald' is not one of .*Did you mean 'last_valid'"):
        build_readout("last_vald", D, LAYERS, H)
    with pytest.raises(ConfigError, match="readout 'last_valid' cannot be built with n_heads"):
        build_readout("last_valid", D, LAYERS, H, n_heads=2)
