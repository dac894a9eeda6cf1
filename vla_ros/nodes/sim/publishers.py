"""Publishes a simulated robot's sensors on the topics of a contract. No physics, no timing: the caller decides when.

A robot's messages are made without ROS and go out as the bytes that the in-process rollout hands to the decoders.
"""

from collections.abc import Iterable
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node

from vla_ros.contract import InputSpec, QosSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.messages.forms.transforms import TF_MESSAGE
from vla_ros.messages.message_types import serialize
from vla_ros.messages.qos import to_profile
from vla_ros.messages.rclpy_deserialize import message_class
from vla_ros.sim.parts import HasCameraInfo, RendersSnapshots
from vla_ros.sim.robot import Robot

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


def time_message(stamp_ns: int) -> Time:
    """Return a stamp in ns as a ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


class SensorPublishers:
    """One publisher for each input of a contract, and a CameraInfo beside each image that has one.

    Args:
        node: Node to publish from.
        contract: Topics, types, QoS.
        robot: The first; one of the same kind follows when the task changes.

    Raises:
        ConfigError: The robot has no source of an input; names the key and what is missing.
    """

    def __init__(self, node: Node, contract: RobotContract, robot: Robot) -> None:
        self._node, self._contract = node, contract
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
        encoded = []
        for spec in self._images:
            if isinstance(robot, HasCameraInfo) and self._has_info and spec.image is not None:
                info = serialize(robot.camera_info(spec, stamp_ns), CAMERA_INFO)
                encoded.append((info_topic(spec), info))
            if snapshot is not None and isinstance(robot, RendersSnapshots):
                message = robot.picture(spec, stamp_ns, snapshot)
            else:
                message = robot.message(spec, stamp_ns)
            encoded.append((spec.topic, serialize(message, spec.type)))
        self._send(encoded)

    def _publish(self, robot: Robot, specs: list[InputSpec], stamp_ns: int) -> None:
        self._send([(spec.topic, serialize(robot.message(spec, stamp_ns), spec.type)) for spec in specs])

    def _send(self, encoded: Iterable[tuple[str, bytes]]) -> None:
        for topic, raw in encoded:
            self._publishers[topic].publish(raw)


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
        self._publisher.publish(serialize(robot.message(self._goal, stamp_ns), self._goal.type))


def info_topic(spec: InputSpec) -> str:
    """Return the topic of an image's calibration: ``camera_info`` beside it, as image_transport has it."""
    return f"{spec.topic.removesuffix('/compressed').rsplit('/', 1)[0]}/camera_info"
