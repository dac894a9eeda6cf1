"""Which files a bag consists of. What metadata.yaml lacks is read from the files; what it says is not ignored."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vla_ros.data_types import DatasetError, nearest_name
from vla_ros.ros_io.bags.compression import ZSTD_MAGIC
from vla_ros.ros_io.bags.mcap_layout import MAGIC as MCAP_MAGIC
from vla_ros.ros_io.bags.metadata import BagMetadata, read_metadata
from vla_ros.ros_io.bags.ros1_file import MAGIC as ROS1_MAGIC
from vla_ros.ros_io.bags.sqlite_file import MAGIC as SQLITE_MAGIC

_MAGICS = {MCAP_MAGIC: "mcap", SQLITE_MAGIC: "sqlite3", ROS1_MAGIC: "ros1", ZSTD_MAGIC: "zstd"}
_SUFFIXES = (".mcap", ".db3", ".bag", ".mcap.zstd", ".db3.zstd")
_BY_SUFFIX = {".mcap": "mcap", ".db3": "sqlite3", ".bag": "ros1", ".zstd": "zstd"}


@dataclass(frozen=True)
class BagFiles:
    """The files of a bag, in order, and what metadata.yaml says of them, None without it."""

    files: tuple[Path, ...]
    metadata: BagMetadata | None


def is_storage(path: Path) -> bool:
    """Whether a file has the name of a bag's storage."""
    return path.name.endswith(_SUFFIXES) and path.is_file()


def is_bag(path: Path) -> bool:
    """Whether a folder or file is a bag, by its names."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(is_storage(file) for file in path.iterdir())
    return is_storage(path)


def storage_kind(path: Path) -> str:
    """Return ``mcap``, ``sqlite3``, ``ros1`` or ``zstd``: by the first bytes, by the name where they are damaged.

    Raises:
        DatasetError: It is none of them.
    """
    with path.open("rb") as file:
        head = file.read(16)
    for magic, kind in _MAGICS.items():
        if head.startswith(magic):
            return kind
    if path.suffix not in _BY_SUFFIX:
        raise DatasetError(f"{path}: not readable as a bag: it is none of MCAP, sqlite3, ROS 1 or one of them as zstd.")
    return _BY_SUFFIX[path.suffix]


def find_files(path: Path, recover: bool) -> BagFiles:
    """Return what a bag consists of.

    Args:
        path: Folder or storage file.
        recover: Read the files that are there when metadata.yaml cannot be used, or lists others.

    Raises:
        DatasetError: No such bag, or metadata.yaml and the folder differ; says how to mend it.
    """
    if not path.exists():
        hint = nearest_name(path.name, (p.name for p in path.parent.glob("*"))) if path.parent.is_dir() else ""
        raise DatasetError(f"{path}: no such bag.{hint}")
    if not path.is_dir():
        return BagFiles((path,), None)
    there = _in_order(file for file in path.iterdir() if is_storage(file))
    try:
        metadata = read_metadata(path)
    except DatasetError:
        if not recover or not there:
            raise
        metadata = None
    if metadata is None:
        if not there:
            raise DatasetError(
                f"{path}: not a bag: expected metadata.yaml or one .mcap or .db3 file, found 0 such files"
            )
        return BagFiles(_without_twins(path, there), None)
    listed = tuple(_existing(path, name) for name in metadata.files)
    missing = [name for name, file in zip(metadata.files, listed, strict=True) if file is None]
    files = tuple(file for file in listed if file is not None)
    spare = [file.name for file in _without_twins(path, there) if _plain(file) not in {_plain(f) for f in files}]
    if recover:
        return BagFiles(_without_twins(path, there), metadata)
    if missing:
        raise DatasetError(
            f"{path}: metadata.yaml lists {len(metadata.files)} files, {len(missing)} are not there: "
            f"{', '.join(missing)[:200]}; copy them too, or delete metadata.yaml to read the others without them."
        )
    if spare:
        raise DatasetError(
            f"{path}: holds {', '.join(spare)[:200]}, which metadata.yaml does not list; move it away, or delete "
            "metadata.yaml to read it too."
        )
    return BagFiles(files, metadata)


def _existing(folder: Path, name: str) -> Path | None:
    """Return a listed file; a compressed one may have been unpacked in place, and a plain one packed since."""
    stem = name.removesuffix(".zstd")
    return next((folder / n for n in dict.fromkeys((name, stem, f"{stem}.zstd")) if (folder / n).is_file()), None)


def _plain(file: Path) -> str:
    return file.name.removesuffix(".zstd")


def _without_twins(folder: Path, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Leave out a packed file beside the plain one that it was, or is being, made of.

    Raises:
        DatasetError: The files are of two kinds, so that they cannot be parts of one bag.
    """
    names = {file.name for file in files}
    kept = tuple(file for file in files if not (file.suffix == ".zstd" and _plain(file) in names))
    kinds = {Path(_plain(file)).suffix for file in kept}
    if len(kinds) > 1:
        raise DatasetError(f"{folder}: holds {' and '.join(sorted(kinds))} files; keep the bag's own ones there.")
    if kinds == {".bag"} and len(kept) > 1:
        raise DatasetError(f"{folder}: holds {len(kept)} ROS 1 bags; give one of them, or their parent as --bags.")
    return kept


def _in_order(files: Iterable[Path]) -> tuple[Path, ...]:
    """Sort the parts of a split bag: part 10 comes after part 9."""

    def key(file: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name)]

    return tuple(sorted(files, key=key))
