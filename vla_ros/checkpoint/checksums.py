"""SHA-256 of a checkpoint's files: computed when it is written, compared when it is read. Knows no file's content.

``metadata.json`` holds them under ``checksums``, file name → hexadecimal digest. It cannot hold its own digest there;
``metadata_checksum`` is that of the file with these 64 digits replaced by zeros.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.checkpoint.checkpoint import METADATA, REQUIRED
from vla_ros.checkpoint.tensor_files import cut
from vla_ros.data_types import CheckpointError
from vla_ros.schema import Section

CHECKSUMS = "checksums"
OWN_CHECKSUM = "metadata_checksum"
SEAL_COMMAND = "vla_ros checkpoint seal"

_DIGITS = 64
_DIGEST = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")
_PLACEHOLDER = "0" * _DIGITS
_BLOCK = 1 << 20  # bytes

_log = logging.getLogger(__name__)


def folder_checksums(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a checkpoint but ``metadata.json``, by its path in the folder.

    Hidden files are left out: file managers and version control put theirs anywhere.
    """
    names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    kept = [name for name in names if str(name) != METADATA and not any(part.startswith(".") for part in name.parts)]
    return {name.as_posix(): _digest(folder / name) for name in kept}


def metadata_text(metadata: Mapping[str, Any], checksums: Mapping[str, str]) -> str:
    """Return the text of ``metadata.json`` with checksums in it, its own among them."""
    rest = {key: value for key, value in metadata.items() if key not in (CHECKSUMS, OWN_CHECKSUM)}
    # the own digest is the last field: zeros elsewhere in the file are then never mistaken for its place
    known = {**rest, CHECKSUMS: dict(checksums), OWN_CHECKSUM: _PLACEHOLDER}
    text = json.dumps(known, indent=2) + "\n"
    return _own_digest_replaced(text, _text_digest(text))


def check_files(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Compare the files of a checkpoint with the checksums in its metadata.

    One that was written before checkpoints carried checksums passes with a warning.

    Args:
        folder: The checkpoint.
        metadata: Content of its ``metadata.json``.

    Raises:
        CheckpointError: A file is missing or is not the one that was saved; names it and both digests.
    """
    if CHECKSUMS not in metadata and OWN_CHECKSUM not in metadata:
        advice = f"if you trust its files, `{SEAL_COMMAND} {folder}` adds them"
        _log.warning("%s: the checkpoint has no checksums, so damage to it may go unnoticed; %s.", folder, advice)
        return
    expected = _expected(folder, metadata)
    _check_metadata(folder, metadata)
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{folder}: the checkpoint lacks {name}; copy the whole folder again.")
        found = _digest(file)
        if found != digest:
            raise _damaged(folder, name, digest, found)


def read_metadata(file: Path) -> dict[str, Any]:
    """Return the content of a ``metadata.json``.

    Raises:
        CheckpointError: It cannot be read, is no JSON object, or holds text that cannot be written again.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as reason:  # JSON can spell it, but no file or terminal takes it
        surrogate = reason.object[reason.start]
        raise CheckpointError(
            f"{file}: holds the lone surrogate {surrogate!r}, which is no character; copy the whole folder again."
        ) from reason
    except OSError as reason:
        raise CheckpointError(f"{file}: cannot be read: {reason.strerror}.") from reason
    except (ValueError, RecursionError) as reason:  # JSON and UTF-8 errors both; nested too deep
        raise CheckpointError(f"{file}: not readable as JSON: {cut(reason)}") from reason
    return dict(Section(str(file), "", content, CheckpointError).content)


def _expected(folder: Path, metadata: Mapping[str, Any]) -> dict[str, str]:
    file = folder / METADATA
    top = Section(str(file), "", metadata, CheckpointError)
    nested = top.section(CHECKSUMS)
    expected = {name: nested.scalar(name, str) for name in nested.content}
    for name, digest in expected.items():
        parts = Path(name).parts
        if Path(name).is_absolute() or ".." in parts or not parts or not _DIGEST.fullmatch(digest):
            raise CheckpointError(
                f"{file}: {CHECKSUMS} holds {name[:80]!r}: {digest[:80]!r}, expected files of this folder and "
                f"{_DIGITS} hexadecimal digits each; copy the whole folder again."
            )
    absent = [name for name in REQUIRED if name != METADATA and name not in expected]
    if absent:
        raise CheckpointError(f"{file}: {CHECKSUMS} lacks {', '.join(absent)}; copy the whole folder again.")
    return expected


def _check_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    file = folder / METADATA
    expected = Section(str(file), "", metadata, CheckpointError).scalar(OWN_CHECKSUM, str)
    found = _text_digest(_own_digest_replaced(file.read_bytes().decode(), _PLACEHOLDER))
    if found != expected:
        raise _damaged(folder, METADATA, expected[:_DIGITS], found)


def _damaged(folder: Path, name: str, expected: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{folder / name}: not the file that was saved: its SHA-256 is {found}, expected {expected}; copy the whole "
        f"folder again, or, if you changed it on purpose, run `{SEAL_COMMAND} {folder}`."
    )


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as reason:
        raise CheckpointError(f"{file}: cannot be read: {reason.strerror}.") from reason
    return digest.hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _own_digest_replaced(text: str, digest: str) -> str:
    start, mark, rest = text.rpartition(f'"{OWN_CHECKSUM}": "')
    return f"{start}{mark}{digest}{rest[_DIGITS:]}"
