"""One number per word, from a checksum of it: a text model without a vocabulary file."""

import zlib
from typing import ClassVar

import torch
from torch import Tensor

from vla_ros.processors import TextModel, TextSpec


class Words(TextModel):
    """Words by their checksum."""

    form: ClassVar = "tokens"

    def __init__(self, spec: TextSpec) -> None:
        self._length, self._size = spec.length, spec.vocabulary_size

    def embed(self, instruction: str) -> dict[str, Tensor]:
        """Return ``task_tokens`` int64 [L] and ``task_mask`` bool [L]."""
        words = [zlib.crc32(word.encode()) % self._size for word in instruction.split()[: self._length]]
        padded = words + [0] * (self._length - len(words))
        return {"task_tokens": torch.tensor(padded), "task_mask": torch.arange(self._length) < len(words)}
