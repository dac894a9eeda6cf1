"""Image and CompressedImage → uint8 [h, w, 3], RGB. Pixels only; no topics, no time.

cv2 on numpy views rather than cv_bridge: cv_bridge needs sensor_msgs, so a converter without ROS could not use it, and
bag and live would then come from different code. The channel conversions are the ones cv_bridge makes.
"""

import sys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ImageSpec
from vla_ros.data_types import DecodeError, nearest_name

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Encoding:
    """How one encoding lies in memory and becomes RGB.

    Attributes:
        channels: Values per pixel in a row; 0 for NV12 and NV21, whose rows of one byte are half as many again.
        depth: Bytes per value.
        to_rgb: Code for cv2.cvtColor, None where the pixels are RGB already.
        pointwise: Whether each pixel converts on its own; resizing then comes first, which is cheaper and equal.
    """

    channels: int
    to_rgb: int | None
    depth: int = 1
    pointwise: bool = True


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
    "bayer_rggb8": _Encoding(1, cv2.COLOR_BayerBG2RGB, pointwise=False),
    "bayer_bggr8": _Encoding(1, cv2.COLOR_BayerRG2RGB, pointwise=False),
    "bayer_gbrg8": _Encoding(1, cv2.COLOR_BayerGR2RGB, pointwise=False),
    "bayer_grbg8": _Encoding(1, cv2.COLOR_BayerGB2RGB, pointwise=False),
    "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, pointwise=False),
    "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, pointwise=False),
    "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, pointwise=False),
    "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, pointwise=False),
    "nv12": _Encoding(0, cv2.COLOR_YUV2RGB_NV12, pointwise=False),
    "nv21": _Encoding(0, cv2.COLOR_YUV2RGB_NV21, pointwise=False),
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
    pixels = _raster(message, encoding, place)
    if encoding.pointwise:
        return _to_rgb(_fit(pixels, form, place), encoding.to_rgb)
    return _fit(_to_rgb(pixels, encoding.to_rgb), form, place)


def decode_compressed_image(form: ImageSpec, message: Any, place: str) -> Pixels:
    """Return a sensor_msgs/CompressedImage (JPEG, PNG, …); result and errors as `decode_image`."""
    if "compressedDepth" in message.format:
        raise DecodeError(f"{place}: format '{message.format}' is depth, not colour; subscribe to a colour camera")
    data = np.frombuffer(message.data, dtype=np.uint8)
    # The pixels as sent: an EXIF rotation would turn the camera's optical frame
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if pixels is None:
        raise DecodeError(f"{place}: {len(data)} bytes of format '{message.format}' do not decode as an image")
    return _to_rgb(_fit(pixels, form, place), cv2.COLOR_BGR2RGB)


def _encoding(name: str, place: str) -> _Encoding:
    known = _ENCODINGS.get(name)
    if known is not None:
        return known
    if name in _NOT_COLOUR:
        raise DecodeError(
            f"{place}: encoding '{name}' is depth or raw numbers, not colour; subscribe to a colour camera"
        )
    hint = nearest_name(name, _ENCODINGS)
    raise DecodeError(f"{place}: unknown image encoding '{name}'; known are {', '.join(_ENCODINGS)}.{hint}")


def _raster(message: Any, encoding: _Encoding, place: str) -> NDArray[Any]:
    """View the message's data as [rows, columns(, channels)], without its row padding."""
    height, width, step = int(message.height), int(message.width), int(message.step)
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


def _eight_bits(rows: NDArray[np.uint8], big_endian: bool) -> NDArray[np.uint8]:
    """Scale 16-bit values, given as bytes, to 0–255."""
    values = np.ascontiguousarray(rows).view(np.uint16)
    if big_endian != (sys.byteorder == "big"):
        values = values.byteswap()
    return np.asarray(np.rint(values * (255.0 / 65535.0)), dtype=np.uint8)


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
