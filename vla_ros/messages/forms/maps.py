"""Images of numbers, as a radar's range-Doppler map → float32 [height * width, 1]. Numbers only; no topics, no time.

A map is made smaller by taking the largest number of those that become one: a target is a few cells, which a mean would
thin out and the nearest cell would miss.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import MapSpec
from vla_ros.messages.forms.rasters import cropped, raw_values

_DTYPES: dict[str, np.dtype[Any]] = {
    "32FC1": np.dtype("f4"),
    "64FC1": np.dtype("f8"),
    "16UC1": np.dtype("u2"),
    "mono16": np.dtype("u2"),
    "16SC1": np.dtype("i2"),
    "8UC1": np.dtype("u1"),
    "mono8": np.dtype("u1"),
}
"""Encoding → numbers, taken as they are."""


def decode_map(form: MapSpec, message: Any, place: str) -> NDArray[np.float32]:
    """Return a sensor_msgs/Image of numbers in the form that the contract asks for.

    Args:
        form: Crop, size and range.
        message: Any object with Image's fields.
        place: Topic and key, for messages.

    Returns:
        float32 [form.height * form.width, 1], row by row, within the range; NaN where the image has no number.

    Raises:
        DecodeError: Another encoding, too little data, or a crop beyond the image.
    """
    values = cropped(raw_values(message, _DTYPES, "image of numbers", place), form.crop, place)
    for axis, new in enumerate((form.height, form.width)):
        values = _resized(values, axis, new)
    return np.clip(values, form.min, form.max).astype(np.float32).reshape(-1, 1)


def _resized(values: NDArray[Any], axis: int, new: int) -> NDArray[Any]:
    """Take the largest of the cells that become one along an axis, or repeat cells where there are too few."""
    old = values.shape[axis]
    if new > old:
        return np.take(values, np.arange(new) * old // new, axis)
    return np.asarray(np.fmax.reduceat(values, np.arange(new) * old // new, axis))  # fmax: a number before NaN
