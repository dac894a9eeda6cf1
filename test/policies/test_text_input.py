import pytest
import torch

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.data_types.resources import resource_path
from vla_ros.policies import build_policy
from vla_ros.policies.common.multimodal import PALIGEMMA_TEXT
from vla_ros.policies.common.text_input import sentence_vectors, text_sequence
from vla_ros.policies.examples import make_example_batch
from vla_ros.processors import TextProcessor, TextSpec, text_models
from vla_ros.schema import load_yaml

FRONT = "observation.images.front"
INPUTS = {FRONT: FeatureSpec(FRONT, "image", (16, 16, 3), "uint8", ("height", "width", "channels"))}
LARGE = {FRONT: FeatureSpec(FRONT, "image", (224, 224, 3), "uint8", ("height", "width", "channels"))}
ACTION = FeatureSpec("action", "action", (2,), "float32", ("dx", "dy"))
PI0 = {
    "vision": {"kind": "vit", "patch_size": 8, "width": 12, "depth": 1, "n_heads": 2, "mlp_dim": 16},
    "attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 8, "mlp_dim": 16},
    "action_horizon": 2,
}
KINDS = [
    TextSpec(),
    TextSpec(kind="tokenizer", source="x", vocabulary_size=30, length=5),
    TextSpec(kind="encoder", source="x", width=7, length=5),
]


def build(**options):
    return build_policy("pi0", {"inputs": INPUTS, "action": ACTION, **PI0, **options}).eval()


def test_a_flow_policy_reads_what_the_text_processor_makes():
    built = build(text={"kind": "characters", "length": 16})
    observation = make_example_batch(built.config)
    actions = []
    for words in ("push the puck", "open"):
        observation |= TextProcessor(built.config.text)([words] * 2)
        generator = torch.Generator().manual_seed(0)
        actions.append(built.predict_action_chunk(observation, generator=generator).actions)
    assert not torch.equal(*actions)


@pytest.mark.parametrize("text", [{"kind": "characters", "length": 9}, KINDS[1], None])
def test_a_flow_policys_text_comes_back_from_its_config_as_a_checkpoint_has_it(text):
    config = build(text=text).config
    assert config.reads_instruction == (text is not None)
    assert build_policy("pi0", config.to_dict()).config == config


def test_a_kind_of_text_that_has_no_tokens_is_refused():
    with pytest.raises(ConfigError, match="but this policy reads text of kind tokenizer or characters"):
        build(text={"kind": "sentence_embedding"})


@pytest.mark.parametrize("name", ["pi0", "flow_ar"])
def test_the_published_sizes_say_how_the_instruction_is_read_and_load_no_tokenizer_to_be_built(monkeypatch, name):
    monkeypatch.setitem(text_models.MODELS, "tokenizer", lambda spec: pytest.fail(f"{spec.source} was loaded"))
    options = load_yaml(resource_path(f"config/policies/{name}.yaml"), ConfigError)
    with torch.device("meta"):
        built, default = (build_policy(name, {"inputs": LARGE, "action": ACTION, **given}) for given in (options, {}))
    assert built.config.text == default.config.text == PALIGEMMA_TEXT
    assert built.parameter_counts()["text"] == 257_216 * 2048
    assert make_example_batch(built.config)["task_tokens"].shape == (2, 48)


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_padding_is_cleared_whatever_it_held(spec):
    length = spec.length
    mask = torch.arange(length).expand(2, length) < torch.tensor([[2], [length]])
    if spec.is_tokens:
        values = torch.randint(1, spec.n_tokens, (2, length))
        dirty = values.masked_fill(~mask, -7)
    else:
        values = torch.randn(2, length, spec.embedding_width)
        dirty = values.masked_fill(~mask[..., None], float("nan"))
    key = "task_tokens" if spec.is_tokens else "task_embeddings"
    got, valid = text_sequence({key: dirty, "task_mask": mask}, spec)
    assert torch.equal(valid, mask)
    assert torch.equal(got[mask], values[mask])
    assert not got[~mask].any()


def test_vectors_of_another_width_are_refused():
    with pytest.raises(ObservationError, match=r"'task_embeddings' must be \[B, L, 7\], got \[2, 5, 8\]"):
        text_sequence({"task_embeddings": torch.zeros(2, 5, 8)}, KINDS[2])
    with pytest.raises(ObservationError, match=r"'task_embedding' must be \[B, 384\], got \[384\]"):
        sentence_vectors({"task_embedding": torch.zeros(384)}, TextSpec(kind="sentence_embedding"))
