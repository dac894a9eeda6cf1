"""The simulated robot's sensors as messages of a contract's inputs: which source lies behind which, stamps, frames.

Knows neither ROS nor a transport: a `MessageMaker` says what a message is made of.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.sim.cameras import focal_length_px
from vla_ros.sim.message_maker import MessageMaker, RosbagsMaker, camera_info, header, joint_state, picture
from vla_ros.sim.metaworld.arm import MetaWorldRobot
from vla_ros.sim.metaworld.config import SimConfig

__all__ = ["Encode", "MessageMaker", "RosbagsMaker", "SensorMessages", "frame_of", "yaw_quaternion"]

Encode = Callable[[int], Any]
"""Stamp in ns → message of the robot's present state."""

_POINT_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32


class SensorMessages:
    """The messages of a contract's inputs.

    Args:
        contract: Topics, types, frames, joint names.
        config: Sources.
        robot: Returns the robot at every message, because another task is another robot.
        make: How messages are made.

    Raises:
        ConfigError: An input has no source in the simulation; names the key and what is missing.
    """

    def __init__(
        self, contract: RobotContract, config: SimConfig, robot: Callable[[], MetaWorldRobot], make: MessageMaker
    ) -> None:
        self._contract, self._config, self._robot, self._make = contract, config, robot, make

    def encoder(self, spec: InputSpec) -> Encode:
        """Return what encodes the robot's state for an input that is no image.

        Raises:
            ConfigError: The simulation has no source for it.
        """
        kind = spec.type.rsplit("/", 1)[1]
        encoders: dict[str, Callable[[InputSpec], Encode]] = {
            "JointState": self._joints,
            "Float32MultiArray": self._array,
            "Float64MultiArray": self._array,
            "PoseStamped": self._pose,
            "TwistStamped": self._twist,
            "Imu": self._imu,
            "PointCloud2": self._points,
        }
        if kind not in encoders:
            raise ConfigError(f"{self._contract.source}: {spec.key}: the simulated robot has no source of {spec.type}")
        return encoders[kind](spec)

    def check_camera(self, key: str) -> None:
        """Refuse an image input that no simulated camera stands behind.

        Raises:
            ConfigError: Names the nearest.
        """
        _require(key, self._config.cameras, f"{self._config.source}: cameras")

    def image(self, spec: InputSpec, stamp_ns: int, image: NDArray[np.uint8]) -> Any:
        """Return a rendered image, uint8 [h, w, 3] RGB, as the input's message."""
        return self.picture(spec.type, self.header(stamp_ns, self.frame_of(spec)), image)

    def picture(self, type_name: str, header: Any, image: NDArray[np.uint8]) -> Any:
        """Return an image, uint8 [h, w, 3] RGB, as an Image or CompressedImage."""
        return picture(self._make, type_name, header, image)

    def camera_info(self, spec: InputSpec, stamp_ns: int, model: Any) -> Any:
        """Return the intrinsics of the camera behind an input, a pinhole without distortion."""
        camera = self._config.cameras[spec.key]
        of, focal = self.header(stamp_ns, self.frame_of(spec)), focal_length_px(model, camera)
        return camera_info(self._make, of, camera.height, camera.width, focal)

    def frame_of(self, spec: InputSpec) -> str:
        """Return the frame_id that an input's messages carry."""
        return frame_of(spec, self._contract, self._config)

    def header(self, stamp_ns: int, frame: str = "") -> Any:
        """Return a std_msgs/Header."""
        return header(self._make, stamp_ns, frame)

    def _joints(self, spec: InputSpec) -> Encode:
        names: list[str] = []
        for other in self._contract.inputs:
            if other.topic == spec.topic:
                names += [name for name in other.names if name not in names]
        self._robot().joint_state(names)  # a joint without a source shall fail at the start
        make = self._make

        def encode(stamp_ns: int) -> Any:
            positions, velocities = self._robot().joint_state(names)
            return joint_state(make, self.header(stamp_ns), names, positions, velocities)

        return encode

    def _array(self, spec: InputSpec) -> Encode:
        code = "f" if "Float32" in spec.type else "d"
        self._robot().joint_state(spec.names)
        make = self._make

        def encode(_: int) -> Any:
            layout = make.new("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
            return make.new(spec.type, layout=layout, data=make.numbers(code, self._robot().joint_state(spec.names)[0]))

        return encode

    def _pose(self, spec: InputSpec) -> Encode:
        self._require_base_frame(spec)

        def encode(stamp_ns: int) -> Any:
            position = self._xyz("geometry_msgs/msg/Point", self._robot().position)
            pose = self._make.new(
                "geometry_msgs/msg/Pose", position=position, orientation=self._quaternion(self._robot().orientation)
            )
            return self._make.new(spec.type, header=self.header(stamp_ns, self.frame_of(spec)), pose=pose)

        return encode

    def _twist(self, spec: InputSpec) -> Encode:
        self._require_base_frame(spec)

        def encode(stamp_ns: int) -> Any:
            values = self._robot().twist()
            twist = self._make.new(
                "geometry_msgs/msg/Twist", linear=self._vector(values[:3]), angular=self._vector(values[3:])
            )
            return self._make.new(spec.type, header=self.header(stamp_ns, self.frame_of(spec)), twist=twist)

        return encode

    def _imu(self, spec: InputSpec) -> Encode:
        def encode(stamp_ns: int) -> Any:
            sample = self._robot().imu()
            return self._make.new(
                spec.type,
                header=self.header(stamp_ns, self.frame_of(spec)),
                orientation=self._quaternion(sample.orientation),
                orientation_covariance=np.zeros(9),
                angular_velocity=self._vector(sample.angular_velocity),
                angular_velocity_covariance=np.zeros(9),
                linear_acceleration=self._vector(sample.linear_acceleration),
                linear_acceleration_covariance=np.zeros(9),
            )

        return encode

    def _points(self, spec: InputSpec) -> Encode:
        _require(spec.key, self._config.lidars, f"{self._config.source}: lidars")
        make = self._make
        fields = [
            make.new("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=_POINT_FLOAT32, count=1)
            for i, name in enumerate("xyz")
        ]

        def encode(stamp_ns: int) -> Any:
            points = self._robot().lidar(spec.key)
            return make.new(
                spec.type,
                header=self.header(stamp_ns, self.frame_of(spec)),
                height=1,
                width=len(points),
                fields=fields,
                is_bigendian=False,
                point_step=12,
                row_step=12 * len(points),
                data=make.numbers("B", np.frombuffer(points.tobytes(), np.uint8)),
                is_dense=True,
            )

        return encode

    def _require_base_frame(self, spec: InputSpec) -> None:
        if spec.frame not in (None, self._contract.base_frame):
            raise ConfigError(
                f"{self._contract.source}: {spec.key}: the simulated robot measures its end effector in "
                f"'{self._contract.base_frame}', the contract asks for '{spec.frame}'"
            )

    def _xyz(self, type_name: str, values: Sequence[float] | NDArray[np.float64]) -> Any:
        x, y, z = map(float, values)
        return self._make.new(type_name, x=x, y=y, z=z)

    def _vector(self, values: NDArray[np.float64]) -> Any:
        return self._xyz("geometry_msgs/msg/Vector3", values)

    def _quaternion(self, values: NDArray[np.float64]) -> Any:
        x, y, z, w = map(float, values)
        return self._make.new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def frame_of(spec: InputSpec, contract: RobotContract, config: SimConfig) -> str:
    """Return the frame_id that the messages of an input carry: the contract's, or the simulation's own name."""
    if spec.frame is not None:
        return spec.frame
    if spec.key in config.cameras:
        return f"{config.cameras[spec.key].camera}_optical_frame"
    if spec.key in config.lidars:
        return "lidar_link"
    return config.end_effector_frame if spec.type.endswith("/Imu") else contract.base_frame


def yaw_quaternion(yaw_rad: float) -> NDArray[np.float64]:
    """Return the rotation about z as a quaternion x, y, z, w."""
    return np.array([0.0, 0.0, math.sin(yaw_rad / 2.0), math.cos(yaw_rad / 2.0)])


def _require(key: str, sources: Mapping[str, object], place: str) -> None:
    if key not in sources:
        raise ConfigError(
            f"{place} has no source for '{key}', which the contract publishes.{nearest_name(key, sources)}"
        )
