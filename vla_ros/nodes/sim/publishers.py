"""Publishes the simulated robot's sensors on the topics of a contract. No physics, no timing: the caller decides when.

Byte arrays are assigned as `array.array`, which costs 20 µs; a numpy array or list would be checked element
by element, 30 ms and more for an image.
"""

import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.node import Node

from vla_ros.contract import InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.messages.qos import to_profile
from vla_ros.messages.rclpy_deserialize import message_class
from vla_ros.sim.config import SimConfig
from vla_ros.sim.messages import Encode, SensorMessages
from vla_ros.sim.metaworld_robot import MetaWorldRobot


class RclpyMaker:
    """Makes rclpy's messages for `SensorMessages`."""

    def new(self, type_name: str, **fields: Any) -> Any:
        """Return a message of a ROS type."""
        return message_class(type_name)(**fields)

    def numbers(self, code: str, values: Any) -> Any:
        """Return an array field's value."""
        if code == "B":
            return array.array("B", np.asarray(values, np.uint8).tobytes())
        return array.array(code, values)

    def image(self, of: Any, pixels: NDArray[Any], encoding: str) -> Any:
        """Return a sensor_msgs/Image, made by cv_bridge."""
        message = _bridge().cv2_to_imgmsg(np.ascontiguousarray(pixels), encoding)
        message.header = of
        return message


@lru_cache(maxsize=1)
def _bridge() -> Any:
    from cv_bridge import CvBridge  # with OpenCV: who publishes no image does without

    return CvBridge()


def time_message(stamp_ns: int) -> Time:
    """Return a stamp in ns as a ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


class SensorPublishers:
    """One publisher for each input of a contract, and a CameraInfo beside each image.

    Args:
        node: Node to publish from.
        contract: Topics, types, QoS, frames, joint names.
        config: Sources.
        robot: Called by `get_robot` at every message, because another task is another robot.

    Raises:
        ConfigError: An input has no source in the simulation; names the key and what is missing.
    """

    def __init__(
        self, node: Node, contract: RobotContract, config: SimConfig, get_robot: Callable[[], MetaWorldRobot]
    ) -> None:
        self._node = node
        self._messages = SensorMessages(contract, config, get_robot, RclpyMaker())
        self._state: list[tuple[Any, Encode]] = []
        self._imu: list[tuple[Any, Encode]] = []
        self._images: list[tuple[Any, Any, InputSpec]] = []
        seen: set[str] = set()
        for spec in contract.inputs:
            if spec.topic not in seen:  # several inputs may select from one topic
                seen.add(spec.topic)
                self._add(spec)

    def _add(self, spec: InputSpec) -> None:
        if spec.image is not None:
            self._messages.check_camera(spec.key)
            info_topic = f"{spec.topic.removesuffix('/compressed').rsplit('/', 1)[0]}/camera_info"
            info_type = message_class("sensor_msgs/msg/CameraInfo")
            info = self._node.create_publisher(info_type, info_topic, to_profile(spec.qos))
            self._images.append((self._publisher(spec), info, spec))
            return
        encode = self._messages.encoder(spec)
        kept = self._imu if spec.type.endswith("/Imu") else self._state
        kept.append((self._publisher(spec), encode))

    def _publisher(self, spec: InputSpec) -> Any:
        return self._node.create_publisher(message_class(spec.type), spec.topic, to_profile(spec.qos))

    def publish_state(self, stamp_ns: int) -> None:
        """Publish all but images and IMU: what belongs to a tick and needs no rendering."""
        _publish(self._state, stamp_ns)

    def publish_imu(self, stamp_ns: int) -> None:
        """Publish the IMU, at every simulation step."""
        _publish(self._imu, stamp_ns)

    def publish_images(self, stamp_ns: int, model: Any, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Publish rendered images and their CameraInfo; from the rendering thread."""
        messages = []
        for image_publisher, info_publisher, spec in self._images:
            messages.append((info_publisher, self._messages.camera_info(spec, stamp_ns, model)))
            messages.append((image_publisher, self._messages.image(spec, stamp_ns, images[spec.key])))
        for publisher, message in messages:
            publisher.publish(message)


def goal_publisher(node: Node, contract: RobotContract, config: SimConfig) -> Callable[[int, NDArray[np.uint8]], None]:
    """Return what publishes an image of the goal, uint8 [h, w, 3] RGB, under its stamp.

    Raises:
        ConfigError: The contract has no goal.
    """
    goal = contract.goal
    if goal is None:
        raise ConfigError(f"{contract.source}: has no goal to publish images of; add one.")
    publisher = node.create_publisher(message_class(goal.type), goal.topic, to_profile(goal.qos))

    def absent() -> MetaWorldRobot:
        raise AssertionError("an image needs no robot")

    messages = SensorMessages(contract, config, absent, RclpyMaker())

    def publish(stamp_ns: int, image: NDArray[np.uint8]) -> None:
        publisher.publish(messages.picture(goal.type, messages.header(stamp_ns), image))

    return publish


def _publish(encoders: list[tuple[Any, Encode]], stamp_ns: int) -> None:
    messages = [(publisher, encode(stamp_ns)) for publisher, encode in encoders]
    for publisher, message in messages:
        publisher.publish(message)
