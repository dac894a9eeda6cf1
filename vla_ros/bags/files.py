"""Which files a bag consists of. What metadata.yaml lacks is read from the files; what it says is not ignored."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vla_ros.bags.compression import ZSTD_MAGIC
from vla_ros.bags.mcap_layout import MAGIC as MCAP_MAGIC
from vla_ros.bags.metadata import BagMetadata, read_metadata
from vla_ros.bags.ros1_layout import MAGIC as ROS1_MAGIC
from vla_ros.bags.sqlite_file import MAGIC as SQLITE_MAGIC
from vla_ros.data_types import DatasetError, nearest_name

_MAGICS = {MCAP_MAGIC: "mcap", SQLITE_MAGIC: "sqlite3", ROS1_MAGIC: "ros1", ZSTD_MAGIC: "zstd"}
_SUFFIXES = (".mcap", ".db3", ".bag", ".bag.active", ".mcap.zstd", ".db3.zstd")
_BY_SUFFIX = {".mcap": "mcap", ".db3": "sqlite3", ".bag": "ros1", ".active": "ros1", ".zstd": "zstd"}


@dataclass(frozen=True)
class BagFiles:
    """The files of a bag, in order, and what metadata.yaml says of them, None without it."""

    files: tuple[Path, ...]
    metadata: BagMetadata | None


def is_storage(path: Path) -> bool:
    """Whether a file has the name of a bag's storage."""
    return path.name.endswith(_SUFFIXES) and path.is_file()


def is_bag(path: Path) -> bool:
    """Whether a folder or file is one bag, by its names."""
    if not path.is_dir():
        return is_storage(path)
    if (path / "metadata.yaml").is_file():
        return True
    files = _without_twins(_in_order(file for file in path.iterdir() if is_storage(file)))
    return len(files) == 1 or (len(files) > 1 and _are_parts(path, files))


def bags_in(folder: Path) -> list[Path]:
    """Return the bags that lie in a folder, by name: folders that are bags, and storage files that are no parts."""
    files = _without_twins(_in_order(path for path in folder.iterdir() if is_storage(path)))
    return sorted([*(path for path in folder.iterdir() if path.is_dir() and is_bag(path)), *files])


def _are_parts(folder: Path, files: tuple[Path, ...]) -> bool:
    """Whether files are named as rosbag2 names the parts of a split bag: as their folder, and counted from 0."""
    kinds = {_plain(file).rpartition(".")[2] for file in files}
    names = {_plain(file).rpartition(".")[0] for file in files}
    return len(kinds) == 1 and names == {f"{folder.resolve().name}_{number}" for number in range(len(files))}


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
        files = _without_twins(there)
        if len(files) > 1 and not _are_parts(path, files):
            raise DatasetError(
                f"{path}: holds {len(files)} files, which are not named as the parts of one bag; give one of them, or "
                "write metadata.yaml with `ros2 bag reindex` where they are."
            )
        return BagFiles(files, None)
    listed = tuple(_existing(path, name) for name in metadata.files)
    missing = [name for name, file in zip(metadata.files, listed, strict=True) if file is None]
    files = tuple(file for file in listed if file is not None)
    spare = [file.name for file in _without_twins(there) if _plain(file) not in {_plain(f) for f in files}]
    if recover:
        return BagFiles(_without_twins(there), metadata)
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


def _without_twins(files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Leave out a packed file beside the plain one that it was, or is being, made of."""
    names = {file.name for file in files}
    return tuple(file for file in files if not (file.suffix == ".zstd" and _plain(file) in names))


def _in_order(files: Iterable[Path]) -> tuple[Path, ...]:
    """Sort the parts of a split bag: part 10 comes after part 9."""

    def key(file: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name)]

    return tuple(sorted(files, key=key))
