"""Publishes a simulated robot's sensors on the topics of a contract. No physics, no timing: the caller decides when.

A robot's messages are made without ROS and go out as the bytes that the in-process rollout hands to the decoders; raw
images are made by cv_bridge, as cameras' drivers make theirs.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import Header

from vla_ros.contract import InputSpec, QosSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.messages.forms.transforms import TF_MESSAGE
from vla_ros.messages.message_types import serialize
from vla_ros.messages.qos import to_profile
from vla_ros.messages.rclpy_deserialize import message_class
from vla_ros.sim.parts import HasCameraInfo, RendersSnapshots
from vla_ros.sim.robot import Robot

CAMERA_INFO, IMAGE = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/Image"


def time_message(stamp_ns: int) -> Time:
    """Return a stamp in ns as a ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


class SensorPublishers:
    """One publisher for each input of a contract, and a CameraInfo beside each image that has one.

    Args:
        node: Node to publish from.
        contract: Topics, types, QoS.
        robot: The first; one of the same kind follows when the task changes.

    Attributes:
        unplugged: Keys of the inputs that are not published; may be replaced at any time.

    Raises:
        ConfigError: The robot has no source of an input; names the key and what is missing.
    """

    def __init__(self, node: Node, contract: RobotContract, robot: Robot) -> None:
        self._node, self._contract = node, contract
        self.unplugged: frozenset[str] = frozenset()
        self._publishers: dict[str, Any] = {}
        self._windows: list[InputSpec] = []
        self._others: list[InputSpec] = []
        self._images: list[InputSpec] = []
        self._has_info = isinstance(robot, HasCameraInfo)
        for spec in contract.inputs:
            if spec.topic in self._publishers or spec.is_latched or spec.type == TF_MESSAGE:
                continue  # several inputs may select from one topic; /tf is published beside these
            robot.check_input(spec)
            self._publisher(spec.topic, spec.type, spec.qos)
            self._list_of(spec).append(spec)
            if spec.image is not None and self._has_info:
                self._publisher(info_topic(spec), CAMERA_INFO, spec.qos)

    def _list_of(self, spec: InputSpec) -> list[InputSpec]:
        if spec.image is not None or spec.depth is not None:
            return self._images
        return self._windows if spec.window is not None else self._others

    def _publisher(self, topic: str, type_name: str, qos: QosSpec) -> None:
        self._publishers[topic] = self._node.create_publisher(message_class(type_name), topic, to_profile(qos))

    def publish_step(self, robot: Robot, stamp_ns: int) -> None:
        """Publish what policies see every sample of, at every simulation step."""
        self._publish(robot, self._windows, stamp_ns)

    def publish_tick(self, robot: Robot, stamp_ns: int) -> None:
        """Publish all but images and windows: what belongs to a tick and needs no rendering."""
        self._publish(robot, self._others, stamp_ns)

    def publish_images(self, robot: Robot, stamp_ns: int, snapshot: Any) -> None:
        """Publish the images of a snapshot, or of the robot where it is None, and their CameraInfo."""
        encoded: list[tuple[str, Any]] = []
        for spec in self._plugged(self._images):
            if isinstance(robot, HasCameraInfo) and self._has_info and spec.image is not None:
                info = serialize(robot.camera_info(spec, stamp_ns), CAMERA_INFO)
                encoded.append((info_topic(spec), info))
            if snapshot is not None and isinstance(robot, RendersSnapshots):
                message = robot.picture(spec, stamp_ns, snapshot)
            else:
                message = robot.message(spec, stamp_ns)
            encoded.append((spec.topic, _bridged(message) if spec.type == IMAGE else serialize(message, spec.type)))
        self._send(encoded)

    def _publish(self, robot: Robot, specs: list[InputSpec], stamp_ns: int) -> None:
        self._send([(spec.topic, serialize(robot.message(spec, stamp_ns), spec.type)) for spec in self._plugged(specs)])

    def _plugged(self, specs: list[InputSpec]) -> list[InputSpec]:
        unplugged = self.unplugged
        return [spec for spec in specs if spec.key not in unplugged] if unplugged else specs

    def _send(self, encoded: Iterable[tuple[str, Any]]) -> None:
        for topic, message in encoded:  # bytes, or a message of rclpy
            self._publishers[topic].publish(message)


class GoalPublisher:
    """Publishes pictures of the goal.

    Args:
        node: Node to publish from.
        contract: Has a goal.

    Raises:
        ConfigError: It has none.
    """

    def __init__(self, node: Node, contract: RobotContract) -> None:
        if contract.goal is None:
            raise ConfigError(f"parameter 'goal_images' is set, but {contract.source} has no goal; add one.")
        self._goal = contract.goal
        self._publisher = node.create_publisher(
            message_class(self._goal.type), self._goal.topic, to_profile(self._goal.qos)
        )

    def publish(self, robot: Robot, stamp_ns: int) -> None:
        """Publish the goal of the episode that a robot is about to begin."""
        message = robot.message(self._goal, stamp_ns)
        self._publisher.publish(_bridged(message) if self._goal.type == IMAGE else serialize(message, self._goal.type))


def image_message(of: Header, pixels: NDArray[Any], encoding: str) -> Any:
    """Return a sensor_msgs/Image of pixels [h, w] or [h, w, channels], made by cv_bridge."""
    message = _bridge().cv2_to_imgmsg(np.ascontiguousarray(pixels), encoding)
    message.header = of
    return message


def _bridged(message: Any) -> Any:
    """Return an image of a robot as a message of rclpy."""
    dtype, channels = _bridge().encoding_to_dtype_with_channels(message.encoding)
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)
    width = message.width * channels * np.dtype(dtype).itemsize
    pixels = np.ascontiguousarray(rows[:, :width]).view(dtype)
    if channels > 1:
        pixels = pixels.reshape(message.height, message.width, channels)
    stamp = Time(sec=message.header.stamp.sec, nanosec=message.header.stamp.nanosec)
    return image_message(Header(stamp=stamp, frame_id=message.header.frame_id), pixels, message.encoding)


@lru_cache(maxsize=1)
def _bridge() -> Any:
    from cv_bridge import CvBridge  # with OpenCV: who publishes no image does without

    return CvBridge()


def info_topic(spec: InputSpec) -> str:
    """Return the topic of an image's calibration: ``camera_info`` beside it, as image_transport has it."""
    return f"{spec.topic.removesuffix('/compressed').rsplit('/', 1)[0]}/camera_info"
