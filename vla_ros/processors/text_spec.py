"""What a policy wants of the instruction. Plain values, checked when built; no tensors, no language model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vla_ros.data_types import ConfigError
from vla_ros.registry import TEXT_MODELS, TextModelName, check_names
from vla_ros.schema import About, Checked, Only

TextForm = Literal["tokens", "vector", "vectors"]
"""What an instruction becomes: numbers to look up, one vector, or a vector for each token."""

_OWN_FORMS: dict[str, TextForm] = {
    "characters": "tokens",
    "tokenizer": "tokens",
    "sentence_embedding": "vector",
    "encoder": "vectors",
}

CHARACTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"()[]{}<>+-*/=_#%&@"
"""The characters that have numbers of their own, from 1 on; with 0 for all others a vocabulary of 90."""

MINILM_WIDTH = 384
LONGEST = 32_768
"""Tokens or characters; beyond it a length is a slip that would take all memory."""


@dataclass(frozen=True, kw_only=True)
class TextSpec(Checked):
    """How the instruction reaches a policy.

    ``characters``: one number per character, from a fixed list; needs no other package. ``tokenizer``: tokens of a
    transformers tokenizer. ``sentence_embedding``: one vector per instruction, of all-MiniLM-L6-v2 unless `source`
    names another model. ``encoder``: one vector per token, of a transformers encoder such as T5's. Another
    package's kind says itself which of these forms its text has; it needs `vocabulary_size` or `width` as they do.

    The batch gets ``task_tokens`` int64 [B, L] (form tokens), ``task_embedding`` float32 [B, E] (vector) or
    ``task_embeddings`` float32 [B, L, E] (vectors); all but ``task_embedding`` come with
    ``task_mask`` bool [B, L], True where there is a token. An instruction that is too long is refused.
    """

    kind: Annotated[
        TextModelName,
        About("How the instruction reaches the policy."),
    ] = "characters"
    length: Annotated[
        int,
        About(
            "L, tokens or characters.",
            at_least=1,
            at_most=LONGEST,
            only=Only("of tokens, not with kind 'sentence_embedding'", lambda spec: spec.form != "vector"),
        ),
    ] = 12
    source: Annotated[
        str | None,
        About(
            "Name or folder of the transformers model.",
            only=Only("of a transformers model, not with kind 'characters'", lambda spec: spec.kind != "characters"),
        ),
    ] = None
    vocabulary_size: Annotated[
        int,
        About(
            "Tokens that the policy knows.",
            only=Only(
                "of tokens, not with kind 'characters'", lambda spec: spec.is_tokens and spec.kind != "characters"
            ),
        ),
    ] = 0
    width: Annotated[
        int,
        About(
            "E, of the vectors (0: MiniLM's 384).",
            only=Only("of vectors, with kind 'encoder' or 'sentence_embedding'", lambda spec: not spec.is_tokens),
        ),
    ] = 0
    characters: Annotated[
        str,
        About(
            "Those known: the first is 1, any other character 0. Padding is with spaces.",
            only=Only("with kind 'characters'", lambda spec: spec.kind == "characters"),
        ),
    ] = CHARACTERS

    def __post_init__(self) -> None:
        check_names(self)
        super().__post_init__()
        if self.kind in ("tokenizer", "encoder") and self.source is None:
            raise ConfigError(f"kind '{self.kind}' needs source, the name or folder of a transformers model.")
        if self.kind == "tokenizer" and self.vocabulary_size < 1:
            raise ConfigError("kind 'tokenizer' needs vocabulary_size, the number of tokens that the policy knows.")
        if self.kind == "encoder" and self.width < 1:
            raise ConfigError("kind 'encoder' needs width, the size of the encoder's vectors.")
        if self.kind == "sentence_embedding" and self.source is not None and self.width < 1:
            raise ConfigError("kind 'sentence_embedding' with a source needs width, the size of its vectors.")
        if self.kind not in _OWN_FORMS:
            self._check_foreign()
        if len(set(self.characters)) != len(self.characters):
            twice = next(c for c in self.characters if self.characters.count(c) > 1)
            raise ConfigError(f"characters: {twice!r} stands there twice.")

    @property
    def form(self) -> TextForm:
        """What an instruction becomes; of another package's kind, its class is imported to know."""
        return form_of(self.kind)

    @property
    def is_tokens(self) -> bool:
        """Whether the policy gets numbers to look up rather than vectors."""
        return self.form == "tokens"

    @property
    def n_tokens(self) -> int:
        """V, the size of the vocabulary of ``characters`` and ``tokenizer``."""
        return len(self.characters) + 1 if self.kind == "characters" else self.vocabulary_size

    @property
    def embedding_width(self) -> int:
        """E, the size of the vectors of ``sentence_embedding`` and ``encoder``."""
        return self.width or MINILM_WIDTH

    def _check_foreign(self) -> None:
        needed = "vocabulary_size" if self.is_tokens else "width"
        if getattr(self, needed) < 1:
            raise ConfigError(f"kind '{self.kind}' makes {self.form} and needs {needed}, at least 1.")


def form_of(kind: str) -> TextForm:
    """Return what instructions become by a kind of text.

    Raises:
        ConfigError: The kind is another package's, which cannot be imported or does not say.
    """
    if kind in _OWN_FORMS:
        return _OWN_FORMS[kind]
    form: TextForm = TEXT_MODELS[kind].form
    if form not in _OWN_FORMS.values():
        raise ConfigError(f"text model '{kind}' has form {form!r}; expected tokens, vector or vectors.")
    return form
