"""Takes the instruction's tensors out of an observation, checked. No embedding, no weights.

Axis legend: B batch, L text tokens, E width of their vectors.
"""

import torch
from torch import Tensor

from vla_ros.data_types import ObservationError
from vla_ros.policies.base import Batch
from vla_ros.processors import TextSpec


def sentence_vectors(observation: Batch, spec: TextSpec) -> Tensor:
    """Return one vector per instruction, float [B, E].

    Raises:
        ObservationError: It is missing or of another shape.
    """
    return _checked(observation, "task_embedding", spec, (spec.embedding_width,))


def text_sequence(observation: Batch, spec: TextSpec) -> tuple[Tensor, Tensor]:
    """Return tokens int64 [B, L] or their vectors float [B, L, E], and which are valid, bool [B, L].

    L is what the observation has: at most the spec's length, unless the policy itself has room for more.

    Raises:
        ObservationError: Something is missing or of another shape.
    """
    key, trailing = ("task_tokens", ()) if spec.is_tokens else ("task_embeddings", (spec.embedding_width,))
    values = _checked(observation, key, spec, ("L", *trailing))
    length = values.shape[1]
    valid_BL = _checked(observation, "task_mask", spec, (length,)).bool()
    # padding may hold anything: numbers beyond the vocabulary, or NaN
    hidden = ~valid_BL if spec.is_tokens else ~valid_BL[..., None]
    return values.masked_fill(hidden, 0), valid_BL


def _checked(observation: Batch, key: str, spec: TextSpec, shape: tuple[int | str, ...]) -> Tensor:
    if key not in observation:
        raise ObservationError(
            f"The observation lacks '{key}', which text of kind '{spec.kind}' becomes; "
            f"it has {', '.join(observation)}. Processors make it when told to use this text."
        )
    value: Tensor = observation[key]
    got = tuple(value.shape)
    if len(got) != len(shape) + 1 or any(e not in (g, "L") for g, e in zip(got[1:], shape, strict=True)):
        raise ObservationError(f"'{key}' must be [{', '.join(map(str, ('B', *shape)))}], got {list(got)}.")
    return value if value.dtype != torch.int32 else value.long()
