"""Serialised sensor messages of realistic size, restamped without serialising them again. No ROS import."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec
from vla_ros.data_types import NANOSECONDS
from vla_ros.messages.message_types import serialize, typestore
from vla_ros.messages.samples import make_example_message

IMAGE_SIZE = (480, 640)
POINTS = 20_000
_STAMP, _STAMP_OFFSET = struct.Struct("<iI"), 4  # after CDR's representation header; rosbags writes little endian


class MessageTemplate:
    """One message whose header stamp is set anew each time it is sent.

    A publisher that builds 1,500 messages a second would take the processor that it is there to leave alone.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._raw = bytearray(serialize(_message(spec), spec.type))

    def at(self, stamp_ns: int) -> bytes:
        """Return the message as taken at a moment, as CDR bytes."""
        _STAMP.pack_into(self._raw, _STAMP_OFFSET, stamp_ns // NANOSECONDS, stamp_ns % NANOSECONDS)
        return bytes(self._raw)


def scene(seconds: float) -> NDArray[np.uint8]:
    """Return a picture uint8 [480, 640, 3] of a scene that moves: shapes, gradients and a sensor's noise.

    Flat pictures would flatter every codec and pure noise would slander them.
    """
    height, width = IMAGE_SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shift = 40.0 * seconds
    waves = 128 + 50 * np.sin((x + shift) / 37.0) + 40 * np.cos((y - 0.5 * shift) / 23.0)
    picture = np.stack([waves, np.roll(waves, 80, axis=1), 255 - waves], axis=-1)
    left = int(shift) % (width - 120)
    picture[180:300, left : left + 120] = (200, 60, 40)
    noise = np.random.default_rng(int(seconds * 1000)).normal(0.0, 3.0, picture.shape)
    pixels: NDArray[np.uint8] = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return pixels


def image_message(stamp_ns: int, pixels: NDArray[np.uint8]) -> Any:
    """Return a rosbags Image, rgb8."""
    height, width = pixels.shape[:2]
    header = _header(stamp_ns)
    return _new("sensor_msgs/msg/Image", header, height, width, "rgb8", 0, width * 3, pixels.reshape(-1))


def _message(spec: InputSpec) -> Any:
    if spec.image is not None:
        return image_message(0, scene(0.0))
    if spec.points is not None:
        return _point_cloud(spec.points.fields)
    return make_example_message(spec, 0)


def _point_cloud(names: tuple[str, ...]) -> Any:
    points = np.random.default_rng(0).normal(size=(POINTS, len(names))).astype(np.float32)
    fields = [_new("sensor_msgs/msg/PointField", name, 4 * index, 7, 1) for index, name in enumerate(names)]
    step, data = 4 * len(names), points.view(np.uint8).reshape(-1)
    return _new("sensor_msgs/msg/PointCloud2", _header(0), 1, POINTS, fields, False, step, step * POINTS, data, True)


def _header(stamp_ns: int) -> Any:
    time = _new("builtin_interfaces/msg/Time", stamp_ns // NANOSECONDS, stamp_ns % NANOSECONDS)
    return _new("std_msgs/msg/Header", time, "")


def _new(type_name: str, *fields: Any) -> Any:
    return typestore().types[type_name](*fields)
