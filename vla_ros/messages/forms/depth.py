"""Depth images → float32 [height * width, 1], metres, NaN where nothing was measured. Pixels only; no topics, no time.

Depth is never interpolated: between a cup and the wall behind it there is nothing, and a mean with an invalid pixel is
a distance that nobody measured. Resizing takes the pixel under the centre of each new one.
"""

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import DepthSpec
from vla_ros.data_types import DecodeError
from vla_ros.data_types.foreign_text import plain
from vla_ros.messages.forms.image_headers import read_header
from vla_ros.messages.forms.images import MAX_PIXELS, MAX_SIDE
from vla_ros.messages.forms.rasters import cropped, raw_values

_DTYPES: dict[str, np.dtype[Any]] = {
    "16UC1": np.dtype("u2"),
    "mono16": np.dtype("u2"),
    "32FC1": np.dtype("f4"),
    "64FC1": np.dtype("f8"),
}
"""Encoding → values; integers count units, floats are metres (REP-118)."""

_CONFIG = struct.Struct("<iff")
"""What compressed_depth_image_transport writes before the PNG: its format, and two parameters of the inverse depth."""


def decode_depth(form: DepthSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return a sensor_msgs/Image of depth in the form that the contract asks for.

    Args:
        form: Crop, size, unit and range.
        message: Any object with Image's fields.
        place: Topic and key, for messages.

    Returns:
        float32 [form.height * form.width, 1], row by row, m; NaN where it is invalid or outside the range.

    Raises:
        DecodeError: Another encoding, too little data, or a crop beyond the image.
    """
    return _fitted(form, raw_values(message, _DTYPES, "depth", place), place)


def decode_compressed_depth(form: DepthSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return a sensor_msgs/CompressedImage of compressed_depth_image_transport; result as `decode_depth`.

    Raises:
        DecodeError: Another format, too large or damaged data, or a crop beyond the image.
    """
    said = plain(message.format)
    encoding = message.format.partition(";")[0].strip()
    if "compressedDepth" not in message.format or encoding not in ("16UC1", "32FC1") or "rvl" in message.format.lower():
        raise DecodeError(f"{place}: format '{said}' is no depth as PNG; publish '16UC1; compressedDepth png'")
    raw = bytes(message.data)
    try:
        _, quantum, offset = _CONFIG.unpack_from(raw)
        png = np.frombuffer(raw, dtype=np.uint8, offset=_CONFIG.size)
        header = read_header(png.data)
    except (struct.error, ValueError) as reason:
        raise DecodeError(f"{place}: {len(raw)} bytes of format '{said}' do not decode: the image {reason}") from reason
    if (
        header.codec != "PNG"
        or header.width * header.height > MAX_PIXELS
        or max(header.width, header.height) > MAX_SIDE
    ):
        raise DecodeError(
            f"{place}: a {header.codec} of {header.width}x{header.height} pixels is no depth that is read"
        )
    try:
        pixels = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise DecodeError(
            f"{place}: {len(raw)} bytes of format '{said}' do not decode: the png is damaged or not 16 bit"
        )
    if encoding == "16UC1":
        return _fitted(form, pixels, place)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.where(pixels == 0, np.nan, quantum / (pixels - np.float64(offset)))
    return _fitted(form, metres, place)


def _fitted(form: DepthSpec, values: NDArray[Any], place: str) -> NDArray[np.float32]:
    """Crop, take the pixels of the new size, scale to metres, and leave out what is invalid."""
    values = cropped(values, form.crop, place)
    rows, columns = (_nearest(old, new) for old, new in zip(values.shape, (form.height, form.width), strict=True))
    chosen = values[np.ix_(rows, columns)]
    with np.errstate(over="ignore", invalid="ignore"):
        metres = chosen * form.unit if chosen.dtype.kind == "u" else chosen.astype(np.float64)
        measured = (chosen != 0) & (metres >= form.min) & (metres <= form.max)  # False for NaN
    return np.where(measured, metres, np.nan).astype(np.float32).reshape(-1, 1)


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """Return which of the old pixels lies under the centre of each new one."""
    return (2 * np.arange(new) + 1) * old // (2 * new)
