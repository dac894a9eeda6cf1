"""The base's sensors as messages of a contract's inputs, made without ROS. No physics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract
from vla_ros.sim.message_maker import RosbagsMaker, header
from vla_ros.sim.mobile_base.base import DifferentialDrive
from vla_ros.sim.mobile_base.config import MobileBaseConfig, Odometer, Scanner
from vla_ros.sim.mobile_base.frames import frame_of, turn_about_z
from vla_ros.sim.mobile_base.scanner import Scan

_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32
_NO_COVARIANCE = np.zeros(9)


class BaseMessages:
    """Makes messages.

    Args:
        contract: Types and frames.
        config: Sensors.
    """

    def __init__(self, contract: RobotContract, config: MobileBaseConfig) -> None:
        self._contract, self._config, self.make = contract, config, RosbagsMaker()

    def header(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return the header of an input's message."""
        return header(self.make, stamp_ns, frame_of(spec, self._contract, self._config))

    def laser_scan(self, spec: InputSpec, stamp_ns: int, scan: Scan, scanner: Scanner) -> Any:
        """Return the lowest ring of a scan as a LaserScan; infinite where there was no echo."""
        increment = float(scan.angles[1] - scan.angles[0])
        return self.make.new(
            spec.type,
            header=self.header(spec, stamp_ns),
            angle_min=float(scan.angles[0]),
            angle_max=float(scan.angles[-1]),
            angle_increment=increment,
            time_increment=0.0,
            scan_time=1.0 / self._contract.fps,
            range_min=scanner.min_range_m,
            range_max=scanner.max_range_m,
            ranges=scan.ranges[0],
            intensities=np.empty(0, np.float32),
        )

    def cloud(self, spec: InputSpec, stamp_ns: int, points: NDArray[np.float32], fields: Sequence[str]) -> Any:
        """Return points, float32 [N, F] or organised [rings, azimuths, F], as a PointCloud2; NaN where is none."""
        height, width = points.shape[:2] if points.ndim == 3 else (1, len(points))
        count = len(fields)
        return self.make.new(
            spec.type,
            header=self.header(spec, stamp_ns),
            height=height,
            width=width,
            fields=[
                self.make.new("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=_FLOAT32, count=1)
                for i, name in enumerate(fields)
            ],
            is_bigendian=False,
            point_step=4 * count,
            row_step=4 * count * width,
            data=np.ascontiguousarray(points, np.float32).view(np.uint8).reshape(-1),
            is_dense=bool(np.isfinite(points).all()),
        )

    def imu(self, spec: InputSpec, stamp_ns: int, base: DifferentialDrive) -> Any:
        """Return what the IMU measures now (REP-145)."""
        orientation, rate, force = base.imu()
        return self.make.new(
            spec.type,
            header=self.header(spec, stamp_ns),
            orientation=self._quaternion(orientation),
            orientation_covariance=_NO_COVARIANCE,
            angular_velocity=self._vector(rate),
            angular_velocity_covariance=_NO_COVARIANCE,
            linear_acceleration=self._vector(force),
            linear_acceleration_covariance=_NO_COVARIANCE,
        )

    def odometry(self, spec: InputSpec, stamp_ns: int, base: DifferentialDrive) -> Any:
        """Return where the base believes to be, and how fast, in its own frame (REP-105)."""
        x, y, yaw = base.odometry
        speed, turn = base.odometry_twist
        pose = self.make.new(
            "geometry_msgs/msg/Pose", position=self._point((x, y, 0.0)), orientation=self._quaternion(turn_about_z(yaw))
        )
        twist = self.make.new(
            "geometry_msgs/msg/Twist", linear=self._vector((speed, 0.0, 0.0)), angular=self._vector((0.0, 0.0, turn))
        )
        spread = _covariances(self._config.odometry)
        return self.make.new(
            spec.type,
            header=self.header(spec, stamp_ns),
            child_frame_id=self._contract.base_frame,
            pose=self.make.new("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
            twist=self.make.new("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=spread),
        )

    def goal(self, spec: InputSpec, stamp_ns: int, goal: NDArray[np.float64], pose: NDArray[np.float64]) -> Any:
        """Return a place in the world as a point in the base's frame."""
        (dx, dy), yaw = goal - pose[:2], pose[2]
        ahead, left = dx * np.cos(yaw) + dy * np.sin(yaw), dy * np.cos(yaw) - dx * np.sin(yaw)
        return self.make.new(spec.type, header=self.header(spec, stamp_ns), point=self._point((ahead, left, 0.0)))

    def _point(self, values: Sequence[float]) -> Any:
        x, y, z = map(float, values)
        return self.make.new("geometry_msgs/msg/Point", x=x, y=y, z=z)

    def _vector(self, values: Sequence[float] | NDArray[np.float64]) -> Any:
        x, y, z = map(float, values)
        return self.make.new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _quaternion(self, values: NDArray[np.float64]) -> Any:
        x, y, z, w = map(float, values)
        return self.make.new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def _covariances(noise: Odometer) -> NDArray[np.float64]:
    spread = np.zeros((6, 6))
    spread[0, 0], spread[5, 5] = noise.speed_noise**2, noise.turn_noise**2
    return spread.ravel()
