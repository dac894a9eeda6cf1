"""``metadata.yaml`` of a rosbag2 folder: which files, which compression, how many messages. Nothing else of it."""

from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from vla_ros.bags.message import full_topic
from vla_ros.data_types import DatasetError, UserError
from vla_ros.data_types.foreign_text import plain
from vla_ros.schema import parse_yaml

NAME = "metadata.yaml"
_MAX_BYTES = 16 * 1024**2
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UnreadableError(UserError):
    """The text is no YAML, or unfolds to too much."""


_MODES = ("", "none", "file", "message", "storage")


@dataclass
class BagMetadata:
    """What ``metadata.yaml`` declares; what it lacks is empty or None.

    Attributes:
        files: Names of the storage files, in order.
        by_message: Whether every message is compressed by itself.
        total: Messages of all topics.
        topics: Topic, by its full name → messages.
    """

    files: tuple[str, ...] = ()
    by_message: bool = False
    total: int | None = None
    topics: dict[str, int] = field(default_factory=dict)


def read_metadata(folder: Path) -> BagMetadata | None:
    """Return what a folder's ``metadata.yaml`` declares, None where it is missing or empty.

    Raises:
        DatasetError: It is not readable, or is no such file; says what to do.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DatasetError(f"{path}: larger than {_MAX_BYTES} bytes, which no bag's metadata are; {_REPAIR}")
        text = path.read_text(encoding="utf-8")
        content = parse_yaml(text, "", _UnreadableError, _Loader)
    except OSError as reason:
        raise DatasetError(f"{path}: cannot be read: {reason.strerror or reason}.") from reason
    except (_UnreadableError, ValueError) as reason:
        said = plain(str(reason).removeprefix(": ").removeprefix("not readable as YAML: "), 200)
        raise DatasetError(f"{path}: not readable as YAML ({said}); {_REPAIR}") from reason
    if not text.strip("\0 \t\r\n") or content is None:
        return None
    try:
        return _parsed(content["rosbag2_bagfile_information"])
    except (KeyError, TypeError, ValueError, AttributeError) as reason:
        said = f"lacks {reason}" if isinstance(reason, KeyError) else str(reason)[:200]
        raise DatasetError(f"{path}: not the metadata of a bag ({said}); {_REPAIR}") from reason


_REPAIR = "delete it, and the bag is read from its files, or write it anew with `ros2 bag reindex`."


def _parsed(info: dict[str, Any]) -> BagMetadata:
    mode = str(info.get("compression_mode") or "").lower()
    form = str(info.get("compression_format") or "").lower()
    if mode not in _MODES:
        raise ValueError(f"compression_mode '{mode[:40]}' is none of NONE, FILE, MESSAGE, STORAGE")
    if mode in ("file", "message") and form not in ("zstd", ""):
        raise ValueError(f"compression_format '{form[:40]}' is not zstd")
    files = tuple(_name(entry) for entry in info["relative_file_paths"] or ())
    if not files:
        raise ValueError("relative_file_paths lists no file")
    if len(set(files)) != len(files):
        raise ValueError("relative_file_paths lists a file twice")
    topics: dict[str, int] = {}
    for entry in info["topics_with_message_count"] or ():
        name = full_topic(str(entry["topic_metadata"]["name"]))
        topics[name] = topics.get(name, 0) + _count(entry["message_count"])
    return BagMetadata(files, mode == "message", _count(info["message_count"]), topics)


def _name(entry: object) -> str:
    """Return a file's name: older bags list it with the name that the folder had."""
    name = PurePath(str(entry)).name
    if not name or not isinstance(entry, str):
        raise ValueError(f"'{str(entry)[:60]}' is no file name")
    return name


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"'{str(value)[:40]}' is no number of messages")
    return value
