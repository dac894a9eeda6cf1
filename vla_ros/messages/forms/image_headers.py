"""What the header of a compressed image declares, read before anything is decoded. No pixels, no topics.

A decoder makes room for what the file declares, and 100 bytes can declare gigabytes. JPEG, PNG, TIFF (what
compressed_image_transport sends), WebP and BMP state their size where it can be read without decoding. Other formats
that OpenCV would decode are refused by name: GIF and JPEG 2000 state sizes in several places, which may disagree.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

Data = memoryview
"""The bytes of a message, uint8."""


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes:
        codec: Name of the format, as in ``JPEG``.
        width: Pixels.
        height: Pixels.
        least_bytes: No complete file of this size is smaller; 0 where nothing can be said.
        is_colour: False where the values are raw numbers, floating point or of more than 16 bits.
    """

    codec: str
    width: int
    height: int
    least_bytes: int = 0
    is_colour: bool = True


def read_header(data: Data) -> Header:
    """Return what an image's header declares.

    Args:
        data: The whole file, uint8.

    Raises:
        ValueError: The format is unknown or not among those that are read, or the header is cut off or contradicts
            itself; the text completes the sentence "the image …".
    """
    start = bytes(data[:16])
    for codec, (is_codec, read) in _READERS.items():
        if is_codec(start):
            try:
                return read(data)
            except (struct.error, IndexError) as reason:
                raise ValueError(f"ends within its {codec} header") from reason
    for name, marks in _REFUSED.items():
        if any(start[offset : offset + len(mark)] == mark for offset, mark in marks):
            raise ValueError(f"is {name}, whose size is not known before decoding; publish it as jpeg or png")
    raise ValueError(f"is none of {', '.join(_READERS)}")


def named_codecs(text: str) -> set[str]:
    """Return the codecs that a CompressedImage's `format` names, such as ``rgb8; jpeg compressed bgr8``."""
    words = "".join(c if c.isalnum() else " " for c in text[:200].lower()).split()
    return {_NAMES[word] for word in words if word in _NAMES}


# JPEG: ITU-T T.81, annex B

_JPEG_SEGMENT = Struct(">H")
_JPEG_FRAME = Struct(">BHH")
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
_JPEG_ARITHMETIC = 0xC9
"""Frames from here on are coded arithmetically, with no least number of bits for a block."""
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment."""
_JPEG_MAX_STEPS = 4096
_JPEG_MAX_SCANS = 64
"""Progressive files have about ten. Each costs a pass over the whole image, and an empty one but ten bytes."""


def _jpeg(data: Data) -> Header:
    at = 2
    for _ in range(_JPEG_MAX_STEPS):
        if data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):
            at += 1  # decoders skip what stands between segments
            continue
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            return _jpeg_frame(data, at, marker)
        if marker in (0xD9, 0xDA):
            break
        at += 2 if marker in _JPEG_ALONE else 2 + int(_JPEG_SEGMENT.unpack_from(data, at + 2)[0])
    raise ValueError("has no JPEG frame header before its pixels")


def _jpeg_frame(data: Data, at: int, marker: int) -> Header:
    scans = bytes(data).count(b"\xff\xda")
    if scans > _JPEG_MAX_SCANS:
        raise ValueError(f"has {scans} JPEG scans, more than the {_JPEG_MAX_SCANS} that any camera needs")
    _, height, width = _JPEG_FRAME.unpack_from(data, at + 4)
    # A block of 8x8 takes a bit or more, and whatever is subsampled, there is a block for each 256 pixels
    least = 0 if marker >= _JPEG_ARITHMETIC else width * height // (64 * 4 * 8)
    return Header("JPEG", width, height, least)


# PNG: ISO/IEC 15948, 11.2.2

_PNG_IHDR = Struct(">I4sIIBB")
_PNG_CHUNK = Struct(">I4s")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEFLATE_RATIO = 1032
"""Deflate expands a byte to this many at most."""


def _png(data: Data) -> Header:
    length, name, width, height, depth, colour = _PNG_IHDR.unpack_from(data, 8)
    if name != b"IHDR" or length != 13 or colour not in _PNG_CHANNELS:
        raise ValueError("has no valid PNG header")
    _check_png_chunks(data)
    row_bytes = 1 + (width * _PNG_CHANNELS[colour] * depth + 7) // 8
    return Header("PNG", width, height, row_bytes * height // _DEFLATE_RATIO)


def _check_png_chunks(data: Data) -> None:
    """Refuse chunks that declare more than there is: OpenCV makes room for gigabytes before it reads one."""
    at = 8
    while at < len(data):
        length, name = _PNG_CHUNK.unpack_from(data, at)
        if name == b"acTL":
            raise ValueError("is an animated PNG; publish single images")
        at += 12 + length
        if at > len(data):
            raise ValueError("ends within a PNG chunk")
        if name == b"IEND":
            return
    raise ValueError("ends before its last PNG chunk")


# WebP: RFC 9649

_WEBP_LOSSY = Struct("<3sHH")
_WEBP_BITS = Struct("<BI")
_WEBP_ANIMATED = 0x02


def _webp(data: Data) -> Header:
    kind = bytes(data[12:16])
    if kind == b"VP8 ":
        mark, width, height = _WEBP_LOSSY.unpack_from(data, 23)
        if mark != b"\x9d\x01\x2a":
            raise ValueError("has no valid WebP header")
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        mark, bits = _WEBP_BITS.unpack_from(data, 20)
        if mark != 0x2F:
            raise ValueError("has no valid WebP header")
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X" or len(data) < 30:
        raise ValueError("has no valid WebP header")
    if data[20] & _WEBP_ANIMATED:
        raise ValueError("is an animated WebP; publish single images")
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    return Header("WebP", width, height)


# BMP, with its oldest header of 12 bytes or a later one

_BMP_SIZES = {True: Struct("<HH"), False: Struct("<ii")}
_BMP_CORE = 12


def _bmp(data: Data) -> Header:
    header_bytes = Struct("<I").unpack_from(data, 14)[0]
    width, height = _BMP_SIZES[header_bytes == _BMP_CORE].unpack_from(data, 18)
    return Header("BMP", width, abs(height))  # a negative height: rows from the top


# TIFF 6.0, section 2

_TIFF_ENTRY = {"<": Struct("<HHI4s"), ">": Struct(">HHI4s")}
_TIFF_COUNT = {"<": Struct("<H"), ">": Struct(">H")}
_TIFF_VALUES = {"<": {3: Struct("<H"), 4: Struct("<I")}, ">": {3: Struct(">H"), 4: Struct(">I")}}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_COMPRESSION = 256, 257, 258, 259
_TIFF_STRIP_ROWS, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 278, 322, 323
_TIFF_TAGS = frozenset(
    {_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_COMPRESSION, _TIFF_STRIP_ROWS, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT}
)
_TIFF_ONE_STRIP = 2**32 - 1
_TIFF_COMPRESSIONS = frozenset({0, 1, 5, 8, 32773, 32946})
"""None, LZW, deflate, PackBits. What others unpack to is stated within the packed data."""


def _tiff(data: Data) -> Header:
    """Read the first directory, which is the image that decoders return."""
    values = _tiff_values(data, "<" if data[0] == ord("I") else ">")
    if not (values[_TIFF_WIDTH] and values[_TIFF_HEIGHT]):
        raise ValueError("has no valid TIFF header")
    for compression in values[_TIFF_COMPRESSION]:
        if compression not in _TIFF_COMPRESSIONS:
            raise ValueError(f"is a TIFF of compression {compression}; publish it with LZW, or as png")
    # Decoders make room for a whole tile or strip, even where it is larger than the image
    strips = [rows for rows in values[_TIFF_STRIP_ROWS] if rows != _TIFF_ONE_STRIP]
    width = max(values[_TIFF_WIDTH] + values[_TIFF_TILE_WIDTH])
    height = max(values[_TIFF_HEIGHT] + values[_TIFF_TILE_HEIGHT] + strips)
    return Header("TIFF", width, height, is_colour=max(values[_TIFF_BITS], default=1) <= 16)


def _tiff_values(data: Data, order: str) -> dict[int, list[int]]:
    """Return tag → the numbers that a directory gives for it; a damaged one may give a tag twice."""
    (at,) = _TIFF_VALUES[order][4].unpack_from(data, 4)
    (count,) = _TIFF_COUNT[order].unpack_from(data, at)
    found: dict[int, list[int]] = {tag: [] for tag in _TIFF_TAGS}
    for index in range(count):
        tag, kind, length, inline = _TIFF_ENTRY[order].unpack_from(data, at + 2 + 12 * index)
        if tag not in _TIFF_TAGS:
            continue
        number = _TIFF_VALUES[order].get(kind)
        if number is None or not 1 <= length <= 4:
            raise ValueError("has no valid TIFF header")
        place, begin = (inline, 0) if length * number.size <= 4 else (data, _TIFF_VALUES[order][4].unpack(inline)[0])
        found[tag] += [int(number.unpack_from(place, begin + k * number.size)[0]) for k in range(length)]
    return found


def _starts(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(marks)


_READERS: dict[str, tuple[Callable[[bytes], bool], Callable[[Data], Header]]] = {
    "JPEG": (_starts(b"\xff\xd8\xff"), _jpeg),
    "PNG": (_starts(b"\x89PNG\r\n\x1a\n"), _png),
    "WebP": (lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", _webp),
    "TIFF": (_starts(b"II*\0", b"MM\0*"), _tiff),
    "BMP": (_starts(b"BM"), _bmp),
}
"""Format → whether the first 16 bytes are of it, and what reads its header."""

_REFUSED: dict[str, tuple[tuple[int, bytes], ...]] = {
    "a GIF": ((0, b"GIF8"),),
    "JPEG 2000": ((0, b"\0\0\0\x0cjP  "), (0, b"\xff\x4f\xff\x51")),
    "AVIF or HEIF": ((4, b"ftyp"),),
    "JPEG XL": ((4, b"JXL "), (0, b"\xff\x0a")),
    "OpenEXR": ((0, b"\x76\x2f\x31\x01"),),
    "Radiance HDR": ((0, b"#?"),),
    "a BigTIFF": ((0, b"II+\0"), (0, b"MM\0+")),
    "a Sun raster": ((0, b"\x59\xa6\x6a\x95"),),
    "a portable pixmap": tuple((0, b"P" + kind) for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"F", b"f")),
}
"""Name → (offset, bytes) of the formats that OpenCV may decode and that are refused."""

_NAMES = {
    "jpeg": "JPEG", "jpg": "JPEG", "png": "PNG", "webp": "WebP", "tiff": "TIFF", "tif": "TIFF", "bmp": "BMP"
}  # fmt: skip
"""Word in a CompressedImage's format → codec."""
