"""Image encodings that `images` does not know, by cv_bridge, for node and converter alike. Imported when one is met.

Distributions know different encodings: what the installed cv_bridge does not turn into RGB is refused by name, and so
is all of it where none is installed, for cv_bridge needs sensor_msgs.
"""

import sys
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import DecodeError
from vla_ros.data_types.foreign_text import first_line, plain


@lru_cache(maxsize=1)
def cv_bridge() -> Any:
    """Return a CvBridge, None where the package is not installed."""
    try:
        from cv_bridge import CvBridge
    except ImportError:  # or sensor_msgs, which it imports
        return None
    return CvBridge()


def to_rgb(message: Any, place: str, known: str) -> NDArray[np.uint8]:
    """Return an image as uint8 [h, w, 3], RGB.

    Args:
        message: Any object with Image's fields.
        place: Topic and key, for messages.
        known: What encodings are known without cv_bridge, for messages.

    Raises:
        DecodeError: cv_bridge is not installed or has no such conversion, or there is too little data.
    """
    said = plain(message.encoding)
    bridge = cv_bridge()
    if bridge is None:
        raise DecodeError(
            f"{place}: unknown image encoding '{said}', and cv_bridge, which may know it, is not installed; {known}"
        )
    try:
        dtype, channels = bridge.encoding_to_dtype_with_channels(message.encoding)
    except Exception as reason:  # cv_bridge raises what it meets: KeyError, RuntimeError, its own
        raise DecodeError(f"{place}: unknown image encoding '{said}', to cv_bridge too; {known}") from reason
    tight = _without_padding(message, np.dtype(dtype), int(channels), place)
    try:
        pixels = np.asarray(bridge.imgmsg_to_cv2(tight, "rgb8"))
    except Exception as reason:
        raise DecodeError(
            f"{place}: cv_bridge cannot turn encoding '{said}' into colours ({first_line(reason)}); {known}"
        ) from reason
    if pixels.dtype != np.uint8 or pixels.shape != (int(message.height), int(message.width), 3):
        raise DecodeError(f"{place}: cv_bridge makes {pixels.dtype} {pixels.shape} of encoding '{said}', not colours")
    return pixels


def _without_padding(message: Any, dtype: np.dtype[Any], channels: int, place: str) -> Any:
    """Return the message with tight rows in this machine's byte order: not every cv_bridge reads other ones."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    row_bytes = width * channels * dtype.itemsize
    data = np.frombuffer(message.data, dtype=np.uint8)
    if not height or not width or step < row_bytes or len(data) < step * (height - 1) + row_bytes:
        raise DecodeError(
            f"{place}: a {width}x{height} '{plain(message.encoding)}' image needs {height} rows of at least "
            f"{row_bytes} bytes, got step {step} and {len(data)} bytes"
        )
    rows = np.ascontiguousarray(np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False))
    if bool(message.is_bigendian) != (sys.byteorder == "big"):
        rows = rows.view(dtype).byteswap()
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=message.encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=row_bytes,
        data=rows.tobytes(),
    )
