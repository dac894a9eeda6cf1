"""The size of a serialised image, read without decoding it: enough to notice a camera that changes its mode."""

import struct
from collections.abc import Callable
from io import BytesIO

from PIL import Image

_UINT32 = {True: struct.Struct("<I"), False: struct.Struct(">I")}
_PREFIX = 4
_STAMP = 8


def image_size(raw: bytes, type_name: str) -> tuple[int, int] | None:
    """Return (height, width) in pixels of a CDR image message, None where it cannot be told.

    Args:
        raw: CDR bytes.
        type_name: sensor_msgs/msg/Image or CompressedImage; None is returned for every other type.
    """
    reader = _READERS.get(type_name)
    if reader is None:
        return None
    try:
        return reader(raw, _UINT32[bool(raw[1] & 1)], _text_end(raw, _PREFIX + _STAMP))
    except (struct.error, IndexError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # damaged: whoever uses the image says so


def _text_end(raw: bytes, position: int) -> int:
    """Return where a string that begins at a position ends, rounded up as the number after it stands."""
    length = _UINT32[bool(raw[1] & 1)].unpack_from(raw, position)[0]
    end = position + 4 + int(length)
    return _PREFIX + (end - _PREFIX + 3) // 4 * 4


def _plain(raw: bytes, number: struct.Struct, position: int) -> tuple[int, int]:
    return number.unpack_from(raw, position)[0], number.unpack_from(raw, position + 4)[0]


def _compressed(raw: bytes, number: struct.Struct, position: int) -> tuple[int, int]:
    position = _text_end(raw, position)
    length = number.unpack_from(raw, position)[0]
    with Image.open(BytesIO(raw[position + 4 : position + 4 + length])) as image:
        return image.height, image.width


_READERS: dict[str, Callable[[bytes, struct.Struct, int], tuple[int, int]]] = {
    "sensor_msgs/msg/Image": _plain,
    "sensor_msgs/msg/CompressedImage": _compressed,
}
