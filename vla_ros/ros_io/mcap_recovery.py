"""What precedes the cut in an MCAP file whose writer was killed. Such a file has no footer, so no index to read by."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcap.stream_reader import StreamReader

from vla_ros.data_types import DatasetError

_MAGIC = b"\x89MCAP0\r\n"


def is_cut_off(path: Path) -> bool:
    """Whether an MCAP file begins as one but lacks the magic bytes at its end."""
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_MAGIC)))
        return head == _MAGIC[: len(head)] and (size <= len(_MAGIC) or file.read() != _MAGIC)


def sequential_messages(path: Path) -> Iterator[tuple[str, str, bytes, int]]:
    """Yield (topic, ROS type, CDR bytes, receive time in ns) in file order, until the end or the cut.

    Raises:
        DatasetError: The file does not begin as an MCAP file.
    """
    types: dict[int, str] = {}
    channels: dict[int, Any] = {}
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise DatasetError(f"{path}: not an MCAP file")
        file.seek(0)
        records = iter(StreamReader(file).records)
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except Exception:  # noqa: BLE001 - the cut can meet the parser at any byte; nothing after it makes sense
                return
            kind = type(record).__name__
            if kind == "Schema":
                types[record.id] = record.name
            elif kind == "Channel":
                channels[record.id] = record
            elif kind == "Message" and record.channel_id in channels:
                channel = channels[record.channel_id]
                yield channel.topic, types.get(channel.schema_id, ""), record.data, record.log_time
