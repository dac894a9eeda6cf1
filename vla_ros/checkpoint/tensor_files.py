"""Files of tensors as a checkpoint holds them: what they declare, and whether their numbers can be used. No policy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vla_ros.data_types import CheckpointError

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""torch's types as safetensors spells them."""

_LENGTH_BYTES = 8
"""In front of the header, little-endian: its length."""
_LONGEST_NAME, _LONGEST_REASON = 120, 300  # characters shown
_MOST_SIZES = 8


@dataclass(frozen=True)
class Form:
    """What a header or a policy says of a tensor.

    Attributes:
        dtype: As safetensors spells it.
        shape: Its sizes.
    """

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Form":
        """Return the form of a tensor, which may have no memory."""
        return cls(TYPES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape[:_MOST_SIZES]))
        return f"{self.dtype} [{sizes}{', …' if len(self.shape) > _MOST_SIZES else ''}]"


@dataclass(frozen=True)
class Header:
    """The header of a file of tensors.

    Attributes:
        forms: Tensor's name → what it is.
        notes: Text beside the tensors; `safetensors.torch.save_model` notes names that share another's tensor.
    """

    forms: dict[str, Form]
    notes: dict[str, str]


def read_header(file: Path) -> Header:
    """Return what a file declares; safetensors compares the sizes with the file's.

    Raises:
        CheckpointError: The file cannot be read or is damaged.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (no mapping)
            forms = {name: Form(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            return Header(forms, dict(tensors.metadata() or {}))
    except (SafetensorError, OSError) as reason:
        raise unreadable(file, reason) from reason


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, on the CPU.

    Raises:
        CheckpointError: The file cannot be read or is damaged.
    """
    try:
        # copies: load_file maps the file, and reading a mapped file that somebody cuts short ends the process
        return {name: tensor.clone() for name, tensor in load_file(file).items()}
    except (SafetensorError, OSError) as reason:
        raise unreadable(file, reason) from reason


def name_of_not_finite(file: Path) -> str:
    """Return the name of the first tensor in which a number is NaN or infinite, or an empty string.

    Raises:
        CheckpointError: The file cannot be read or is damaged.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            # the file is mapped: numbers are looked at where they lie, one tensor after the other
            names = (name for name in tensors.keys() if not _is_finite(tensors.get_tensor(name)))  # noqa: SIM118
            return shown(next(names, ""))
    except (SafetensorError, OSError) as reason:
        raise unreadable(file, reason) from reason


def unreadable(file: Path, reason: BaseException) -> CheckpointError:
    """Return the error for a file that cannot be read, with the tensor at fault where there is one."""
    if isinstance(reason, OSError):
        return CheckpointError(f"{file}: cannot be read: {cut(reason)}.")
    return CheckpointError(f"{file}: damaged: {cut(reason)}{_tensor_at_fault(file)}; copy the whole folder again.")


def cut(reason: BaseException) -> str:
    """Return a foreign error in one line of bounded length, without a stop."""
    text = " ".join(str(reason).split()).rstrip(".")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} …"


def shown(name: str) -> str:
    """Return a name out of a file as it may be printed."""
    text = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    return text if text.isprintable() else repr(text)[1:-1]


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.numel() or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.dtype not in TYPES:
        return bool(torch.isfinite(tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)).all())
    low, high = torch.aminmax(tensor)  # NaN if one number is; one pass and no memory, unlike isfinite
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _tensor_at_fault(file: Path) -> str:
    """Return which tensor's declared size is not its bytes in the file, as an addition to a message."""
    try:
        with file.open("rb") as stream:
            length, size = int.from_bytes(stream.read(_LENGTH_BYTES), "little"), file.stat().st_size
            if length > size:
                return ""
            header = json.loads(stream.read(length))
        body = size - _LENGTH_BYTES - length
        names = (name for name, entry in header.items() if name != "__metadata__" and not _fits(entry, body))
        name = next(names, "")
    except (OSError, ValueError, RecursionError, AttributeError):
        return ""
    return f" (tensor '{shown(name)}')" if name else ""


def _fits(entry: Any, body: int) -> bool:
    """Return whether a header's entry describes bytes that are there."""
    try:
        begin, end = entry["data_offsets"]
        numbers = 1
        for length in entry["shape"]:
            numbers *= length
        itemsize = next(dtype.itemsize for dtype, name in TYPES.items() if name == entry["dtype"])
        return bool(0 <= begin <= end <= body and end - begin == numbers * itemsize)
    except (KeyError, TypeError, ValueError, StopIteration):
        return False
