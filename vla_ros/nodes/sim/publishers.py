"""Publishes the simulated robot's sensors on the topics of a contract.

Owns the step from simulated quantities to messages: which source lies behind which input, stamps, frames,
layouts. No physics, no timing: whoever calls decides when.

Byte arrays are assigned as `array.array`, which costs 20 µs; a numpy array or list would be checked element
by element, 30 ms and more for an image.
"""

import array
import math
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, Quaternion, TwistStamped, Vector3
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, JointState, PointCloud2, PointField
from std_msgs.msg import Float32MultiArray, Float64MultiArray, Header

from vla_ros.contract import InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError, nearest_name
from vla_ros.ros_io.qos import to_profile
from vla_ros.sim.cameras import focal_length_px
from vla_ros.sim.config import SimConfig
from vla_ros.sim.metaworld_robot import MetaWorldRobot

Encode = Callable[[int], Any]
"""Stamp in ns → message of the robot's present state."""


def time_message(stamp_ns: int) -> Time:
    """Return a stamp in ns as a ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def frame_of(spec: InputSpec, contract: RobotContract, config: SimConfig) -> str:
    """Return the frame_id that the messages of an input carry: the contract's, or the simulation's own name."""
    if spec.frame is not None:
        return spec.frame
    if spec.key in config.cameras:
        return f"{config.cameras[spec.key].camera}_optical_frame"
    if spec.key in config.lidars:
        return "lidar_link"
    return config.end_effector_frame if spec.type.endswith("/Imu") else contract.base_frame


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
        self._node, self._contract, self._config, self._robot = node, contract, config, get_robot
        self._state: list[tuple[Any, Encode]] = []
        self._imu: list[tuple[Any, Encode]] = []
        self._images: list[tuple[Any, Any, InputSpec]] = []
        seen: set[str] = set()
        for spec in contract.inputs:
            if spec.topic not in seen:  # several inputs may select from one topic
                seen.add(spec.topic)
                self._add(spec)

    def _add(self, spec: InputSpec) -> None:
        kind = spec.type.rsplit("/", 1)[1]
        add = {
            "Image": self._add_image,
            "CompressedImage": self._add_image,
            "JointState": self._add_joints,
            "Float32MultiArray": self._add_array,
            "Float64MultiArray": self._add_array,
            "PoseStamped": self._add_pose,
            "TwistStamped": self._add_twist,
            "Imu": self._add_imu,
            "PointCloud2": self._add_points,
        }.get(kind)
        if add is None:
            raise ConfigError(f"{self._contract.source}: {spec.key}: the simulated robot has no source of {spec.type}")
        add(spec)

    def _publisher(self, message_type: Any, spec: InputSpec) -> Any:
        return self._node.create_publisher(message_type, spec.topic, to_profile(spec.qos))

    def _header(self, spec: InputSpec, stamp_ns: int) -> Header:
        return Header(stamp=time_message(stamp_ns), frame_id=frame_of(spec, self._contract, self._config))

    def _add_image(self, spec: InputSpec) -> None:
        _require(spec.key, self._config.cameras, f"{self._config.source}: cameras")
        image_type = Image if spec.type.endswith("/Image") else CompressedImage
        image = self._publisher(image_type, spec)
        info_topic = f"{spec.topic.removesuffix('/compressed').rsplit('/', 1)[0]}/camera_info"
        info = self._node.create_publisher(CameraInfo, info_topic, to_profile(spec.qos))
        self._images.append((image, info, spec))

    def _add_joints(self, spec: InputSpec) -> None:
        names: list[str] = []
        for other in self._contract.inputs:
            if other.topic == spec.topic:
                names += [name for name in other.names if name not in names]
        self._robot().joint_state(names)  # a joint without a source shall fail at the start

        def encode(stamp_ns: int) -> JointState:
            positions, velocities = self._robot().joint_state(names)
            return JointState(
                header=Header(stamp=time_message(stamp_ns)),
                name=names,
                position=array.array("d", positions),
                velocity=array.array("d", velocities),
            )

        self._state.append((self._publisher(JointState, spec), encode))

    def _add_array(self, spec: InputSpec) -> None:
        message_type, code = (Float32MultiArray, "f") if "Float32" in spec.type else (Float64MultiArray, "d")
        self._robot().joint_state(spec.names)

        def encode(_: int) -> Any:
            return message_type(data=array.array(code, self._robot().joint_state(spec.names)[0]))

        self._state.append((self._publisher(message_type, spec), encode))

    def _add_pose(self, spec: InputSpec) -> None:
        self._require_base_frame(spec)

        def encode(stamp_ns: int) -> PoseStamped:
            message = PoseStamped(header=self._header(spec, stamp_ns))
            x, y, z = map(float, self._robot().position)
            message.pose.position.x, message.pose.position.y, message.pose.position.z = x, y, z
            message.pose.orientation = _quaternion(self._robot().orientation)
            return message

        self._state.append((self._publisher(PoseStamped, spec), encode))

    def _add_twist(self, spec: InputSpec) -> None:
        self._require_base_frame(spec)

        def encode(stamp_ns: int) -> TwistStamped:
            twist = self._robot().twist()
            message = TwistStamped(header=self._header(spec, stamp_ns))
            message.twist.linear, message.twist.angular = _vector(twist[:3]), _vector(twist[3:])
            return message

        self._state.append((self._publisher(TwistStamped, spec), encode))

    def _add_imu(self, spec: InputSpec) -> None:
        def encode(stamp_ns: int) -> Imu:
            sample = self._robot().imu()
            return Imu(
                header=self._header(spec, stamp_ns),
                orientation=_quaternion(sample.orientation),
                angular_velocity=_vector(sample.angular_velocity),
                linear_acceleration=_vector(sample.linear_acceleration),
            )

        self._imu.append((self._publisher(Imu, spec), encode))

    def _add_points(self, spec: InputSpec) -> None:
        _require(spec.key, self._config.lidars, f"{self._config.source}: lidars")

        def encode(stamp_ns: int) -> PointCloud2:
            return _cloud(self._robot().lidar(spec.key), self._header(spec, stamp_ns))

        self._state.append((self._publisher(PointCloud2, spec), encode))

    def _require_base_frame(self, spec: InputSpec) -> None:
        if spec.frame not in (None, self._contract.base_frame):
            raise ConfigError(
                f"{self._contract.source}: {spec.key}: the simulated robot measures its end effector in "
                f"'{self._contract.base_frame}', the contract asks for '{spec.frame}'"
            )

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
            header = self._header(spec, stamp_ns)
            encode = _image if spec.type.endswith("/Image") else _compressed
            messages.append((info_publisher, self._camera_info(spec, header, model)))
            messages.append((image_publisher, encode(images[spec.key], header)))
        for publisher, message in messages:
            publisher.publish(message)

    def _camera_info(self, spec: InputSpec, header: Header, model: Any) -> CameraInfo:
        camera = self._config.cameras[spec.key]
        focal = focal_length_px(model, camera)
        cx, cy = camera.width / 2.0, camera.height / 2.0
        return CameraInfo(
            header=header,
            height=camera.height,
            width=camera.width,
            distortion_model="plumb_bob",
            d=[0.0] * 5,
            k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
            r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
        )


def goal_publisher(node: Node, contract: RobotContract) -> Callable[[int, NDArray[np.uint8]], None]:
    """Return what publishes a goal's picture, uint8 [h, w, 3] RGB, under its stamp.

    Raises:
        ConfigError: The contract has no goal.
    """
    goal = contract.goal
    if goal is None:
        raise ConfigError(f"{contract.source}: has no goal to publish pictures of; add one.")
    is_plain = goal.type.endswith("/Image")
    publisher = node.create_publisher(Image if is_plain else CompressedImage, goal.topic, to_profile(goal.qos))
    encode = _image if is_plain else _compressed

    def publish(stamp_ns: int, image: NDArray[np.uint8]) -> None:
        publisher.publish(encode(image, Header(stamp=time_message(stamp_ns))))

    return publish


def _publish(encoders: list[tuple[Any, Encode]], stamp_ns: int) -> None:
    messages = [(publisher, encode(stamp_ns)) for publisher, encode in encoders]
    for publisher, message in messages:
        publisher.publish(message)


def _require(key: str, sources: Mapping[str, object], place: str) -> None:
    if key not in sources:
        raise ConfigError(
            f"{place} has no source for '{key}', which the contract publishes.{nearest_name(key, sources)}"
        )


def _vector(values: NDArray[np.float64]) -> Vector3:
    x, y, z = map(float, values)
    return Vector3(x=x, y=y, z=z)


def _quaternion(values: NDArray[np.float64]) -> Quaternion:
    x, y, z, w = map(float, values)
    return Quaternion(x=x, y=y, z=z, w=w)


def _image(image: NDArray[np.uint8], header: Header) -> Image:
    height, width, _ = image.shape
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array.array("B", image.tobytes())
    return message


def _compressed(image: NDArray[np.uint8], header: Header) -> CompressedImage:
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data = array.array("B", encoded.tobytes())
    return message


def _cloud(points: NDArray[np.float32], header: Header) -> PointCloud2:
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")]
    message = PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        point_step=12,
        row_step=12 * len(points),
        is_dense=True,
    )
    message.data = array.array("B", points.tobytes())
    return message


def yaw_quaternion(yaw_rad: float) -> NDArray[np.float64]:
    """Return the rotation about z as a quaternion x, y, z, w."""
    return np.array([0.0, 0.0, math.sin(yaw_rad / 2.0), math.cos(yaw_rad / 2.0)])
