"""Writes a checkpoint's checksums anew, after one of its files was changed on purpose. Changes nothing else."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vla_ros.checkpoint.checkpoint import METADATA
from vla_ros.checkpoint.checksums import CHECKSUMS, folder_checksums, metadata_text, read_metadata
from vla_ros.checkpoint.load import load_unverified
from vla_ros.data_types import CheckpointError


def seal_checkpoint(path: str | Path) -> tuple[str, ...]:
    """Write the checksums of a checkpoint whose files were changed on purpose, or that has none.

    Returns:
        Files that are other than the old checksums say: changed, new and lost ones, by name.

    Raises:
        CheckpointError: The checkpoint does not load, or its ``metadata.json`` cannot be written.
    """
    path = Path(path)
    load_unverified(path)
    metadata = read_metadata(path / METADATA)
    before, now = metadata.get(CHECKSUMS), folder_checksums(path)
    _replace(path / METADATA, metadata_text(metadata, now))
    before = before if isinstance(before, Mapping) else {}
    return tuple(sorted(name for name in {*before, *now} if before.get(name) != now.get(name)))


def _replace(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as reason:
        raise CheckpointError(f"{file}: cannot be written: {reason.strerror}.") from reason
