"""Image and CompressedImage → uint8 [h, w, 3], RGB. Pixels only; no topics, no time.

cv2 on numpy views, so that a converter without ROS decodes as a node does; cv_bridge needs sensor_msgs. The channel
conversions are the ones cv_bridge makes, which is the oracle in the tests; an encoding that is not in the table here is
left to it, in node and converter alike.
"""

import sys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ImageSpec
from vla_ros.data_types import DecodeError, nearest_name
from vla_ros.data_types.foreign_text import plain
from vla_ros.messages.forms import by_cv_bridge
from vla_ros.messages.forms.image_headers import Header, named_codecs, read_header

Pixels = NDArray[np.uint8]

MAX_PIXELS = 2**25
"""Most pixels of a compressed image: 33.5 million, just above 8K video (7680x4320), the largest that is streamed.
Decoding takes about six bytes a pixel, 200 MB then, and a few hundred bytes can declare any size."""

MAX_SIDE = 2**16 - 1
"""Most pixels along a side, JPEG's own limit."""


@dataclass(frozen=True)
class _Encoding:
    """How one encoding lies in memory and becomes RGB.

    Attributes:
        channels: Values per pixel in a row; 0 for NV12 and NV21, whose rows of one byte are half as many again.
        depth: Bytes per value.
        to_rgb: Code for cv2.cvtColor, None where the pixels are RGB already.
        pointwise: Whether each pixel converts on its own; resizing then comes first, which is cheaper and equal.
        multiple: (rows, columns) that height and width must be multiples of: pixels that share their colour.
        least: Fewest rows and columns.
    """

    channels: int
    to_rgb: int | None
    depth: int = 1
    pointwise: bool = True
    multiple: tuple[int, int] = (1, 1)
    least: int = 1


def _bayer(to_rgb: int) -> _Encoding:
    # OpenCV leaves the outermost pixels to their neighbours, so smaller images come out black
    return _Encoding(1, to_rgb, pointwise=False, least=3)


_ENCODINGS: dict[str, _Encoding] = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Encoding(3, cv2.COLOR_BGR2RGB),  # OpenCV's own order, as cv_bridge takes it
    "8UC4": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Encoding(3, None, 2),
    "bgr16": _Encoding(3, cv2.COLOR_BGR2RGB, 2),
    "rgba16": _Encoding(4, cv2.COLOR_RGBA2RGB, 2),
    "bgra16": _Encoding(4, cv2.COLOR_BGRA2RGB, 2),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    # ROS names a Bayer pattern by its first two rows, OpenCV by the second row from its second pixel
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2RGB),
    "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, pointwise=False, multiple=(1, 2)),
    "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, pointwise=False, multiple=(1, 2)),
    "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, pointwise=False, multiple=(1, 2)),
    "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, pointwise=False, multiple=(1, 2)),
    "nv12": _Encoding(0, cv2.COLOR_YUV2RGB_NV12, pointwise=False, multiple=(2, 2)),
    "nv21": _Encoding(0, cv2.COLOR_YUV2RGB_NV21, pointwise=False, multiple=(2, 2)),
}

_NOT_COLOUR = ("16UC1", "16SC1", "32FC1", "64FC1")


def decode_image(form: ImageSpec, message: Any, place: str) -> Pixels:
    """Return a sensor_msgs/Image in the form that the contract asks for.

    Args:
        form: Crop and size.
        message: Any object with Image's fields; `data` may be bytes, array.array or uint8 array.
        place: Topic and key, for messages.

    Returns:
        uint8 [form.height, form.width, 3], RGB, C-contiguous.

    Raises:
        DecodeError: Unknown or colourless encoding, too little data, or a crop beyond the image.
    """
    encoding = _encoding(message.encoding, place)
    if encoding is None:
        known = f"known are {', '.join(_ENCODINGS)}.{nearest_name(plain(message.encoding), _ENCODINGS)}"
        return np.ascontiguousarray(_fit(by_cv_bridge.to_rgb(message, place, known), form, place))
    pixels = _raster(message, encoding, place)
    if encoding.pointwise:
        return _to_rgb(_fit(pixels, form, place), encoding.to_rgb)
    return _fit(_to_rgb(pixels, encoding.to_rgb), form, place)


def decode_compressed_image(form: ImageSpec, message: Any, place: str) -> Pixels:
    """Return a sensor_msgs/CompressedImage (JPEG, PNG, TIFF, WebP, BMP); result as `decode_image`.

    The size that the image declares is read from its header first, and one above `MAX_PIXELS` is refused.

    Raises:
        DecodeError: Depth, another format than these or than `format` says, too large, damaged, or a crop beyond it.
    """
    said = plain(message.format)
    if "compressedDepth" in message.format or message.format.partition(";")[0].strip() in _NOT_COLOUR:
        raise DecodeError(f"{place}: format '{said}' is depth, not colour; subscribe to a colour camera")
    data = np.frombuffer(message.data, dtype=np.uint8)
    try:
        header = _checked_header(read_header(data.data), len(data))
    except ValueError as reason:
        raise DecodeError(
            f"{place}: {len(data)} bytes of format '{said}' do not decode: the image {reason}"
        ) from reason
    named = named_codecs(message.format)
    if named and header.codec not in named:
        raise DecodeError(f"{place}: format says '{said}', but the data are {header.codec}; correct the publisher")
    try:
        # The pixels as sent: an EXIF rotation would turn the camera's optical frame
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise DecodeError(f"{place}: {len(data)} bytes of format '{said}' do not decode: the {header.codec} is damaged")
    return _to_rgb(_fit(pixels, form, place), cv2.COLOR_BGR2RGB)


def _checked_header(header: Header, n_bytes: int) -> Header:
    """Return the header of an image that can be decoded.

    Raises:
        ValueError: It cannot; the text completes the sentence "the image …".
    """
    size = f"{header.width}x{header.height} pixels"
    if header.width < 1 or header.height < 1:
        raise ValueError(f"declares {size}")
    if header.width * header.height > MAX_PIXELS or max(header.width, header.height) > MAX_SIDE:
        raise ValueError(f"declares {size}; at most {MAX_PIXELS} pixels and {MAX_SIDE} a side are decoded")
    if n_bytes < header.least_bytes:
        raise ValueError(f"declares {size}, which take at least {header.least_bytes} bytes as {header.codec}")
    if not header.is_colour:
        raise ValueError("holds depth or raw numbers, not colour")
    return header


def _encoding(name: str, place: str) -> _Encoding | None:
    if name in _NOT_COLOUR:
        raise DecodeError(
            f"{place}: encoding '{name}' is depth or raw numbers, not colour; subscribe to a colour camera"
        )
    return _ENCODINGS.get(name)


def _raster(message: Any, encoding: _Encoding, place: str) -> NDArray[Any]:
    """View the message's data as [rows, columns(, channels)], without its row padding."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    rows_of, columns_of = encoding.multiple
    if height % rows_of or width % columns_of or 0 < min(height, width) < encoding.least:
        raise DecodeError(
            f"{place}: a '{message.encoding}' image of {width}x{height} pixels cannot be: its width must be a multiple "
            f"of {columns_of}, its height of {rows_of}, and both at least {encoding.least}"
        )
    rows = height if encoding.channels else height + height // 2
    row_bytes = width * max(encoding.channels, 1) * encoding.depth
    data = np.frombuffer(message.data, dtype=np.uint8)
    if not height or not width or step < row_bytes or len(data) < step * (rows - 1) + row_bytes:
        raise DecodeError(
            f"{place}: a {width}x{height} '{message.encoding}' image needs {rows} rows of at least {row_bytes} bytes, "
            f"got step {step} and {len(data)} bytes"
        )
    view = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1), writeable=False)
    if encoding.depth == 2:
        view = _eight_bits(view, bool(message.is_bigendian))
    return view.reshape(rows, width, encoding.channels) if encoding.channels > 1 else view


_EIGHT_BITS = np.asarray(np.rint(np.arange(2**16, dtype=np.uint16) * (255.0 / 65535.0)), dtype=np.uint8)
"""16-bit value → 0–255. A table, because float64 in between would take eight times the message's memory."""


def _eight_bits(rows: NDArray[np.uint8], big_endian: bool) -> NDArray[np.uint8]:
    """Scale 16-bit values, given as bytes, to 0–255."""
    values = np.ascontiguousarray(rows).view(np.uint16)
    if big_endian != (sys.byteorder == "big"):
        values = values.byteswap()
    return np.take(_EIGHT_BITS, values)


def _fit(pixels: NDArray[Any], form: ImageSpec, place: str) -> NDArray[Any]:
    """Crop and resize. INTER_LINEAR: a twelfth of INTER_AREA's time, and training sees the same pixels."""
    if form.crop is not None:
        top, left, height, width = form.crop
        if top + height > pixels.shape[0] or left + width > pixels.shape[1]:
            raise DecodeError(
                f"{place}: crop {list(form.crop)} (top, left, height, width) goes beyond the image of "
                f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
            )
        pixels = pixels[top : top + height, left : left + width]
    if pixels.shape[:2] == (form.height, form.width):
        return pixels
    resized = cv2.resize(np.ascontiguousarray(pixels), (form.width, form.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized)


def _to_rgb(pixels: NDArray[Any], code: int | None) -> Pixels:
    contiguous = np.ascontiguousarray(pixels)
    return contiguous if code is None else np.asarray(cv2.cvtColor(contiguous, code), dtype=np.uint8)
