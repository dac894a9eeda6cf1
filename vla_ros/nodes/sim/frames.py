"""The frames of a simulated robot on ``/tf_static`` and ``/tf``.

tf2_msgs comes with a ROS installation or from interfaces/; without it nothing is published, and the node says so.
"""

from collections.abc import Iterable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from vla_ros.nodes.sim.publishers import time_message
from vla_ros.sim.parts import FrameTransform, HasFrames
from vla_ros.sim.robot import Robot


class FramePublisher:
    """Publishes the frames of a robot that has some, where tf2_msgs is installed.

    Args:
        node: Node to publish from.
        robot: The first; one of the same kind follows when the task changes.
    """

    def __init__(self, node: Node, robot: Robot) -> None:
        self._publisher: Any = None
        if not isinstance(robot, HasFrames):
            return
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().info("tf2_msgs is not installed: /tf and /tf_static are not published")
            return
        self._message = TFMessage
        self._publisher = node.create_publisher(TFMessage, "/tf", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_publisher(TFMessage, "/tf_static", latched)
        self._static.publish(TFMessage(transforms=_messages((f for f in robot.frames() if f.is_static), 0)))

    def publish(self, robot: Robot, stamp_ns: int) -> None:
        """Publish the frames that move."""
        if self._publisher is None or not isinstance(robot, HasFrames):
            return
        moving = _messages((frame for frame in robot.frames() if not frame.is_static), stamp_ns)
        self._publisher.publish(self._message(transforms=moving))


def _messages(frames: Iterable[FrameTransform], stamp_ns: int) -> list[TransformStamped]:
    return [_message(frame, stamp_ns) for frame in frames]


def _message(frame: FrameTransform, stamp_ns: int) -> TransformStamped:
    message = TransformStamped(child_frame_id=frame.child)
    message.header.frame_id, message.header.stamp = frame.parent, time_message(stamp_ns)
    for name, value in zip("xyz", frame.position, strict=True):
        setattr(message.transform.translation, name, float(value))
    for name, value in zip("xyzw", frame.rotation, strict=True):
        setattr(message.transform.rotation, name, float(value))
    return message
