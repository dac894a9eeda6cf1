"""zstd, lz4 and bz2 within limits: what a stranger's file claims about its size is never believed."""

import bz2
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import zstandard

from vla_ros.data_types import DatasetError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""First bytes of a zstd frame. CDR begins with a zero byte, so a compressed message is never taken for a plain one."""

MAX_BYTES = 2 * 1024**3
"""Largest chunk or message that is unpacked."""

_BLOCK = 1 << 20


class DamagedError(Exception):
    """A part of a storage file contradicts itself; the message says which and how."""


def unpack(data: bytes, compression: str, limit: int = MAX_BYTES) -> bytes:
    """Return the plain bytes of a chunk or message, of which `limit` is the most that it may hold.

    Args:
        data: As stored.
        compression: ``zstd``, ``lz4``, ``bz2`` or empty.
        limit: In bytes.

    Raises:
        DamagedError: Damaged, larger than the limit, or an unknown compression.
    """
    if limit > MAX_BYTES:
        raise DamagedError(f"{limit} bytes in one piece exceed {MAX_BYTES}")
    try:
        if compression == "zstd":
            plain = _unpack_zstd(data, limit)
        elif compression == "lz4":
            plain = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=limit + 1)
        elif compression == "bz2":
            plain = bz2.BZ2Decompressor().decompress(data, max_length=limit + 1)
        elif not compression:
            plain = data
        else:
            raise DamagedError(f"compression '{compression[:20]}' is none of zstd, lz4, bz2")
    except (zstandard.ZstdError, RuntimeError, EOFError, OSError, ValueError, MemoryError) as reason:
        raise DamagedError(f"its {compression} data are damaged") from reason
    if len(plain) > limit:
        raise DamagedError(f"it holds more than the {limit} bytes it declares")
    return plain


def _unpack_zstd(data: bytes, limit: int) -> bytes:
    blocks, size = [], 0
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while size <= limit and (block := reader.read(min(_BLOCK, limit + 1 - size))):
            blocks.append(block)
            size += len(block)
    return b"".join(blocks)


def unpack_file(source: Path, target: Path) -> str:
    """Unpack a ``.zstd`` file; return what is wrong with it, and then what precedes the damage was unpacked.

    Raises:
        DatasetError: The disk is full.
    """
    try:
        with source.open("rb") as file, target.open("wb") as plain:
            return "" if _unpack_frames(file, plain) else "it is cut off: its zstd data end too early"
    except zstandard.ZstdError:
        return "it is damaged: its zstd data cannot be unpacked"
    except OSError as reason:
        place = target.parent
        raise DatasetError(f"{source}: cannot be unpacked into {place}: {reason.strerror or reason}.") from reason


def _unpack_frames(file: BinaryIO, plain: BinaryIO) -> bool:
    """Write what all frames of a file hold; return whether the last one is whole."""
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    whole = False
    while block := file.read(_BLOCK):
        while block:
            if whole:
                unpacker, whole = zstandard.ZstdDecompressor().decompressobj(), False
            plain.write(unpacker.decompress(block))
            whole = unpacker.eof
            block = unpacker.unused_data if whole else b""
    return whole
