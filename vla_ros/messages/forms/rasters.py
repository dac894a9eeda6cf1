"""sensor_msgs/Image of one number a pixel → array [h, w]: what depth images and images of numbers have in common."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DecodeError
from vla_ros.data_types.foreign_text import plain


def raw_values(message: Any, dtypes: Mapping[str, np.dtype[Any]], what: str, place: str) -> NDArray[Any]:
    """Return the numbers of an image as they were sent, in this machine's byte order.

    Args:
        message: Any object with Image's fields.
        dtypes: Encoding → type of its numbers.
        what: What the image is to be, for messages.
        place: Topic and key, for messages.

    Raises:
        DecodeError: Another encoding, or too little data.
    """
    dtype = dtypes.get(message.encoding)
    if dtype is None:
        raise DecodeError(f"{place}: encoding '{plain(message.encoding)}' is no {what}; known are {', '.join(dtypes)}")
    height, width, step = int(message.height), int(message.width), int(message.step)
    data, row_bytes = np.frombuffer(message.data, dtype=np.uint8), width * dtype.itemsize
    if not height or not width or step < row_bytes or len(data) < step * (height - 1) + row_bytes:
        raise DecodeError(
            f"{place}: a {width}x{height} '{message.encoding}' image needs {height} rows of at least {row_bytes} "
            f"bytes, got step {step} and {len(data)} bytes"
        )
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False)
    values: NDArray[Any] = np.ascontiguousarray(rows).view(dtype)
    return values.byteswap() if bool(message.is_bigendian) != (sys.byteorder == "big") else values


def cropped(values: NDArray[Any], crop: tuple[int, int, int, int] | None, place: str) -> NDArray[Any]:
    """Return the part of an image that the contract asks for.

    Raises:
        DecodeError: The crop goes beyond the image.
    """
    if crop is None:
        return values
    top, left, height, width = crop
    if top + height > values.shape[0] or left + width > values.shape[1]:
        raise DecodeError(
            f"{place}: crop {list(crop)} (top, left, height, width) goes beyond the image of "
            f"{values.shape[1]}x{values.shape[0]} pixels"
        )
    return values[top : top + height, left : left + width]
