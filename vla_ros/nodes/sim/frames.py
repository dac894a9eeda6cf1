"""The frames of the simulated robot: cameras, scanner and hand, for ``/tf_static`` and ``/tf``.

Owns the geometry of the transforms. tf2_msgs comes with a ROS installation or from interfaces/; where it is absent
nothing is published, and the node says so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from vla_ros.contract import RobotContract
from vla_ros.nodes.sim.publishers import time_message
from vla_ros.sim.config import SimConfig
from vla_ros.sim.messages import frame_of, yaw_quaternion
from vla_ros.sim.metaworld_robot import MetaWorldRobot, quaternion_of

_OPTICAL = np.diag(
    (1.0, -1.0, -1.0)
)  # MuJoCo's cameras look along −z with y up, ROS's optical frames along z with y down


def static_transforms(contract: RobotContract, config: SimConfig, robot: MetaWorldRobot) -> list[TransformStamped]:
    """Return where cameras, scanners and IMU are mounted: on the base, or on the hand where they move with it."""
    data = robot.snapshot()
    hand = data.body("hand")
    hand_rotation = hand.xmat.reshape(3, 3)
    transforms: dict[str, TransformStamped] = {}
    for spec in contract.inputs:
        child = frame_of(spec, contract, config)
        if spec.key in config.cameras:
            camera = data.camera(config.cameras[spec.key].camera)
            position, rotation = camera.xpos, camera.xmat.reshape(3, 3) @ _OPTICAL
            moves = robot.model.cam_bodyid[robot.model.camera(config.cameras[spec.key].camera).id] != 0
            if moves:
                position, rotation = hand_rotation.T @ (position - hand.xpos), hand_rotation.T @ rotation
            quaternion = quaternion_of(rotation)
            transforms[child] = _transform(
                config.end_effector_frame if moves else contract.base_frame, child, position, quaternion
            )
        elif spec.key in config.lidars:
            lidar = config.lidars[spec.key]
            turn = yaw_quaternion(np.radians(lidar.yaw_deg))
            transforms[child] = _transform(contract.base_frame, child, np.asarray(lidar.position), turn)
        elif spec.type.endswith("/Imu") and child != config.end_effector_frame:
            transforms[child] = _transform(
                config.end_effector_frame, child, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])
            )
    return list(transforms.values())


class FramePublisher:
    """Publishes the frames, where tf2_msgs is installed.

    Args:
        node: Node to publish from.
        contract: Names of the frames.
        config: Mounting of the sensors.
        get_robot: Where the hand is.
    """

    def __init__(
        self, node: Node, contract: RobotContract, config: SimConfig, get_robot: Callable[[], MetaWorldRobot]
    ) -> None:
        self._contract, self._config, self._robot = contract, config, get_robot
        self._publisher: Any = None
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().info("tf2_msgs is not installed: /tf and /tf_static are not published")
            return
        self._message = TFMessage
        self._publisher = node.create_publisher(TFMessage, "/tf", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_publisher(TFMessage, "/tf_static", latched)
        self._static.publish(TFMessage(transforms=static_transforms(contract, config, get_robot())))

    def publish(self, stamp_ns: int) -> None:
        """Publish where the hand is."""
        if self._publisher is None:
            return
        robot = self._robot()
        transform = _transform(
            self._contract.base_frame, self._config.end_effector_frame, robot.position, robot.orientation
        )
        transform.header.stamp = time_message(stamp_ns)
        self._publisher.publish(self._message(transforms=[transform]))


def _transform(
    parent: str, child: str, position: NDArray[np.float64], quaternion: NDArray[np.float64]
) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    for name, value in zip("xyz", position, strict=True):
        setattr(message.transform.translation, name, float(value))
    for name, value in zip("xyzw", quaternion, strict=True):
        setattr(message.transform.rotation, name, float(value))
    return message
