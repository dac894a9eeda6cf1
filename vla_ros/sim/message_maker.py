"""Messages of simulated sensors, made with or without ROS. Knows no simulator."""

from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS
from vla_ros.messages.message_types import typestore


class MessageMaker(Protocol):
    """Makes messages of one message library."""

    def new(self, type_name: str, **fields: Any) -> Any:
        """Return a message of a ROS type with all its fields given."""

    def numbers(self, code: str, values: Any) -> Any:
        """Return an array field's value; `code` as in the array module: ``B``, ``f`` or ``d``."""

    def image(self, of: Any, pixels: NDArray[Any], encoding: str) -> Any:
        """Return a sensor_msgs/Image with a header of pixels [h, w] or [h, w, channels], as its encoding has them."""


class RosbagsMaker:
    """Makes messages without ROS, for `vla_ros.messages.message_types.serialize`."""

    def new(self, type_name: str, **fields: Any) -> Any:
        """Return a rosbags message."""
        return typestore().types[type_name](**fields)

    def numbers(self, code: str, values: Any) -> Any:
        """Return a numpy array."""
        return np.asarray(values, dtype={"B": np.uint8, "f": np.float32, "d": np.float64}[code]).reshape(-1)

    def image(self, of: Any, pixels: NDArray[Any], encoding: str) -> Any:
        """As `MessageMaker.image`."""
        data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
        fields = {"height": pixels.shape[0], "width": pixels.shape[1], "encoding": encoding, "is_bigendian": 0}
        step = data.size // max(pixels.shape[0], 1)
        return self.new("sensor_msgs/msg/Image", header=of, **fields, step=step, data=data)


def header(make: MessageMaker, stamp_ns: int, frame: str = "") -> Any:
    """Return a std_msgs/Header."""
    stamp = make.new("builtin_interfaces/msg/Time", sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)
    return make.new("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def picture(make: MessageMaker, type_name: str, of: Any, image: NDArray[np.uint8]) -> Any:
    """Return an image as an Image or CompressedImage.

    Args:
        make: How messages are made.
        type_name: ROS type.
        of: Its header.
        image: uint8 [h, w, 3] RGB, first row at the top.
    """
    if type_name.endswith("/CompressedImage"):
        _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        data = make.numbers("B", encoded)
        return make.new(type_name, header=of, format="rgb8; jpeg compressed bgr8", data=data)
    return make.image(of, image, "rgb8")


def joint_state(make: MessageMaker, of: Any, names: Sequence[str], positions: Any, velocities: Any = ()) -> Any:
    """Return a sensor_msgs/JointState without efforts.

    Args:
        make: How messages are made.
        of: Its header.
        names: Of the joints.
        positions: rad or m, in the order of the names.
        velocities: rad/s or m/s; empty where they are not measured.
    """
    return make.new(
        "sensor_msgs/msg/JointState",
        header=of,
        name=list(names),
        position=make.numbers("d", positions),
        velocity=make.numbers("d", velocities),
        effort=make.numbers("d", []),
    )


def camera_info(make: MessageMaker, of: Any, height: int, width: int, focal_px: float) -> Any:
    """Return the sensor_msgs/CameraInfo of a pinhole camera without distortion, its axis through the middle.

    Args:
        make: How messages are made.
        of: Its header.
        height: Of the image in pixels.
        width: Of the image in pixels.
        focal_px: Focal length in pixels, the same along both axes.
    """
    cx, cy = width / 2.0, height / 2.0
    k = [focal_px, 0.0, cx, 0.0, focal_px, cy, 0.0, 0.0, 1.0]
    p = [focal_px, 0.0, cx, 0.0, 0.0, focal_px, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return make.new(
        "sensor_msgs/msg/CameraInfo",
        header=of,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array(k),
        r=np.eye(3).ravel(),
        p=np.array(p),
        binning_x=0,
        binning_y=0,
        roi=make.new("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )
