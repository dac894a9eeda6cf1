import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks import AttentionOptions, Expert, ExpertOptions, TextTokens, VisionOptions, VisionTransformer
from vla_ros.networks.language.pretrained import copy_gemma, copy_patch_tokens, copy_siglip, load_transformers
from vla_ros.networks.vision.image_tokens import PatchTokens

transformers = pytest.importorskip("transformers")

VISION = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3}
VISION |= {"image_size": 8, "patch_size": 4}
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 1, "head_dim": 8, "vocab_size": 30}
OURS = {"patch_size": 4, "width": 12, "depth": 2, "n_heads": 3, "mlp_dim": 20}
SIZES = AttentionOptions(depth=2, n_heads=4, n_kv_heads=1, head_dim=8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shaken(model):
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    return model.eval()


def paligemma():
    config = transformers.PaliGemmaConfig(
        vision_config={**VISION, "projection_dim": 16, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config={**TEXT, "model_type": "gemma"},
        projection_dim=16,
        image_token_index=29,
    )
    return shaken(transformers.PaliGemmaForConditionalGeneration(config))


def test_our_vision_transformer_with_siglips_weights_equals_siglip():
    siglip = shaken(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION)))
    ours = VisionTransformer((8, 8), **OURS)
    copy_siglip(siglip, ours)
    images = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), siglip(images).last_hidden_state, rtol=1e-4, atol=1e-5)


def test_paligemmas_image_features_are_ours_after_copying():
    model = paligemma()
    ours = PatchTokens(VisionOptions(**OURS), (8, 8), 16)
    copy_patch_tokens(model, ours)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), model.get_image_features(images).pooler_output, rtol=1e-4, atol=1e-5)


def test_paligemmas_language_model_and_embedding_are_copied():
    model = paligemma()
    expert, text = Expert(ExpertOptions(width=16, mlp_dim=24), SIZES), TextTokens(30, 16)
    copy_gemma(model, expert, text.embedding)
    language = model.model.language_model
    torch.testing.assert_close(expert.layer(1).mlp.down.weight, language.layers[1].mlp.down_proj.weight)
    ids = torch.tensor([[4, 9]])
    torch.testing.assert_close(text(ids, ids > 0), language.embed_tokens(ids))


def test_another_size_is_refused_and_nothing_is_changed():
    gemma = transformers.GemmaModel(transformers.GemmaConfig(**{**TEXT, "intermediate_size": 32}))
    expert = Expert(ExpertOptions(width=16, mlp_dim=24), SIZES)
    before = {name: p.clone() for name, p in expert.state_dict().items()}
    with pytest.raises(ConfigError, match=r"'layers.0.mlp.gate.weight' is \[32, 16\] in the Gemma, \[24, 16\]"):
        copy_gemma(gemma, expert)
    assert all(torch.equal(p, before[name]) for name, p in expert.state_dict().items())


def test_another_depth_is_refused():
    gemma = transformers.GemmaModel(transformers.GemmaConfig(**{**TEXT, "num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match="the Gemma has 3 layers, the policy 2"):
        copy_gemma(gemma, Expert(ExpertOptions(width=16, mlp_dim=24), SIZES))


def test_a_model_of_another_kind_is_refused():
    siglip = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION))
    with pytest.raises(ConfigError, match="SiglipVisionModel is not a Gemma"):
        copy_gemma(siglip, Expert(ExpertOptions(width=16, mlp_dim=24), SIZES))


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"is not on this machine|cannot be fetched"):
        load_transformers(str(tmp_path / "absent"))
