"""Where the base and its sensors are: odom → base_link → sensors (REP-105), for ``/tf`` and ``/tf_static``."""

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract
from vla_ros.sim.mobile_base.base import DifferentialDrive
from vla_ros.sim.mobile_base.config import BaseCamera, MobileBaseConfig
from vla_ros.sim.parts import FrameTransform

Vector = NDArray[np.float64]
_OPTICAL = np.array(((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
"""Axes of an optical frame (x right, y down, z ahead) as columns, of a camera that looks along x (REP-103)."""


def frames_of(contract: RobotContract, config: MobileBaseConfig, base: DifferentialDrive) -> list[FrameTransform]:
    """Return odometry's transform and those of the sensors that the contract names."""
    x, y, yaw = base.odometry
    here = FrameTransform(config.odometry.frame, contract.base_frame, np.array((x, y, 0.0)), turn_about_z(yaw))
    transforms = {contract.base_frame: here}
    for spec in contract.inputs:
        mounted = mounting(spec, config)
        if mounted is not None:
            child = frame_of(spec, contract, config)
            transforms[child] = FrameTransform(contract.base_frame, child, *mounted, is_static=True)
    return list(transforms.values())


def mounting(spec: InputSpec, config: MobileBaseConfig) -> tuple[Vector, Vector] | None:
    """Return where an input's sensor is on the base, m [3], and its turn, quaternion x, y, z, w; None of no sensor."""
    camera = config.cameras.get(spec.key)
    if camera is not None:
        return np.array(camera.position), optical_rotation(camera)
    sensor = config.scanners.get(spec.key) or config.radars.get(spec.key)
    if sensor is not None:
        return np.array(sensor.position), turn_about_z(math.radians(sensor.yaw_deg))
    if spec.type.endswith("/Imu"):
        return np.array(config.imu.position), turn_about_z(0.0)
    return None


def frame_of(spec: InputSpec, contract: RobotContract, config: MobileBaseConfig) -> str:
    """Return the frame_id of an input's messages: the contract's, or the simulator's own."""
    if spec.frame is not None:
        return spec.frame
    sensor: Any = config.cameras.get(spec.key) or config.scanners.get(spec.key) or config.radars.get(spec.key)
    if sensor is not None:
        return str(sensor.frame)
    if spec.type.endswith("/Odometry"):
        return config.odometry.frame
    return config.imu.frame if spec.type.endswith("/Imu") else contract.base_frame


def optical_rotation(camera: BaseCamera) -> Vector:
    """Return a camera's optical frame in the base, quaternion x, y, z, w."""
    yaw, pitch = math.radians(camera.yaw_deg), math.radians(camera.pitch_deg)
    turn = np.array(((math.cos(yaw), -math.sin(yaw), 0.0), (math.sin(yaw), math.cos(yaw), 0.0), (0.0, 0.0, 1.0)))
    down = np.array(
        ((math.cos(pitch), 0.0, math.sin(pitch)), (0.0, 1.0, 0.0), (-math.sin(pitch), 0.0, math.cos(pitch)))
    )
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(turn @ down @ _OPTICAL).ravel())
    return np.roll(quaternion, -1)


def turn_about_z(angle: float) -> Vector:
    """Return a rotation about z, rad, as a quaternion x, y, z, w."""
    return np.array((0.0, 0.0, math.sin(angle / 2.0), math.cos(angle / 2.0)))
