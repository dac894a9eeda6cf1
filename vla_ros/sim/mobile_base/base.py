"""The base's physics and what it measures of itself: motors, encoders, odometry, IMU. No world, no rendering."""

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS
from vla_ros.sim.mobile_base.config import MobileBaseConfig
from vla_ros.sim.mobile_base.model import BASE, IMU, TIMESTEP_S

Vector = NDArray[np.float64]

STEP_NS = 10_000_000
"""Simulated time of one step of the robot: the IMU's 100 Hz, four of the physics' steps."""
STEP_S = STEP_NS / NANOSECONDS
_SUBSTEPS = round(STEP_S / TIMESTEP_S)
_SETTLE_S = 0.3


class DifferentialDrive:
    """Two wheels that follow a commanded speed and rate of turn.

    Args:
        model: Of `build_model`.
        config: Body and motors.
    """

    def __init__(self, model: Any, config: MobileBaseConfig) -> None:
        self.model, self.data = model, mujoco.MjData(model)
        self._config, self._drive = config, config.drive
        self._body = model.body(BASE).id
        self._pose = int(model.jnt_qposadr[model.body_jntadr[self._body]])
        self._wheels = [int(model.joint(side).qposadr[0]) for side in ("left", "right")]
        self._motors = [model.actuator(side).id for side in ("left", "right")]
        self._chassis = model.geom("chassis").id
        self._floor = model.geom("floor").id

    def reset(self, x: float, y: float, yaw: float, noise: np.random.Generator) -> None:
        """Put the base down at rest.

        Args:
            x: m.
            y: m.
            yaw: rad.
            noise: What is drawn of the sensors' errors comes from here.
        """
        mocap = np.array(self.data.mocap_pos), np.array(self.data.mocap_quat)
        mujoco.mj_resetData(self.model, self.data)
        self.data.mocap_pos[:], self.data.mocap_quat[:] = mocap
        start = self._pose
        self.data.qpos[start : start + 7] = x, y, 0.0, math.cos(yaw / 2.0), 0.0, 0.0, math.sin(yaw / 2.0)
        self._wanted: Vector = np.zeros(2)  # speed and rate of turn
        self._reference: Vector = np.zeros(2)  # the same as the wheels are told by now
        self.touched = False
        for _ in range(round(_SETTLE_S / TIMESTEP_S)):
            mujoco.mj_step(self.model, self.data)
        self.data.time = 0.0
        self._noise = noise
        errors = self._config.odometry.scale_error
        self._scale = 1.0 + noise.normal(0.0, errors, 2) if errors else np.ones(2)
        self._angles = self._wheel_angles()
        self.odometry: Vector = np.zeros(3)
        """Where the base believes to be, from where it was reset: x, y in m, yaw in rad."""
        self.odometry_twist: Vector = np.zeros(2)
        """Measured speed in m/s and rate of turn in rad/s."""
        mujoco.mj_forward(self.model, self.data)
        self._sample_imu()

    def want(self, speed: float, turn: float) -> None:
        """Set the speed, m/s, and the rate of turn, rad/s, that the wheels are to reach, within the drive's limits."""
        drive = self._drive
        self._wanted = np.array(
            (np.clip(speed, -drive.max_speed / 2.0, drive.max_speed), np.clip(turn, -drive.max_turn, drive.max_turn))
        )

    def step(self) -> None:
        """Simulate `STEP_NS`."""
        drive = self._drive
        limit = np.array((drive.max_acceleration, drive.max_turn_acceleration)) * STEP_S
        self._reference = self._reference + np.clip(self._wanted - self._reference, -limit, limit)
        speed, turn = self._reference
        half = drive.track / 2.0
        self.data.ctrl[self._motors] = np.array((speed - turn * half, speed + turn * half)) / drive.wheel_radius
        mujoco.mj_step(self.model, self.data, _SUBSTEPS)
        self._touch()
        self._measure()
        self._sample_imu()

    @property
    def pose(self) -> Vector:
        """Where the base truly is: x, y in m, yaw in rad."""
        x, y = self.data.qpos[self._pose : self._pose + 2]
        w, i, j, k = self.data.qpos[self._pose + 3 : self._pose + 7]
        return np.array((x, y, math.atan2(2.0 * (w * k + i * j), 1.0 - 2.0 * (j * j + k * k))))

    @property
    def velocity(self) -> Vector:
        """How fast the middle of the base truly moves in the world, m/s [3]."""
        return np.array(self.data.qvel[:3])

    @property
    def spin(self) -> float:
        """How fast it truly turns about its z axis, rad/s."""
        return float(self.data.qvel[5])

    def place(self, position: Any, yaw: float = 0.0) -> tuple[Vector, Vector]:
        """Return a mounting place in the world, m [3], and its axes as columns, [3, 3]; `yaw` in rad."""
        body = self.data.body(BASE)
        rotation = np.array(body.xmat).reshape(3, 3)
        turn = np.array(((math.cos(yaw), -math.sin(yaw), 0.0), (math.sin(yaw), math.cos(yaw), 0.0), (0.0, 0.0, 1.0)))
        return body.xpos + rotation @ np.asarray(position), rotation @ turn

    def imu(self) -> tuple[Vector, Vector, Vector]:
        """Return orientation (quaternion x, y, z, w), angular velocity, rad/s, and specific force, m/s² (REP-145)."""
        return self._imu

    def _touch(self) -> None:
        """Note whether the chassis has met anything but the floor."""
        contacts = self.data.contact
        pairs = np.stack((contacts.geom1, contacts.geom2), axis=1) if self.data.ncon else np.empty((0, 2), int)
        mine = (pairs == self._chassis).any(axis=1)
        self.touched = self.touched or bool((mine & (pairs != self._floor).all(axis=1)).any())

    def _wheel_angles(self) -> Vector:
        return np.array(self.data.qpos[self._wheels])

    def _measure(self) -> None:
        angles, before = self._wheel_angles(), self._angles
        self._angles = angles
        left, right = (angles - before) * self._drive.wheel_radius / STEP_S
        twist = np.array(((left + right) / 2.0, (right - left) / self._drive.track)) * self._scale
        noise = self._config.odometry
        twist += self._noise.normal(0.0, 1.0, 2) * (noise.speed_noise, noise.turn_noise)
        x, y, yaw = self.odometry
        middle = yaw + twist[1] * STEP_S / 2.0
        self.odometry = np.array(
            (
                x + twist[0] * STEP_S * math.cos(middle),
                y + twist[0] * STEP_S * math.sin(middle),
                yaw + twist[1] * STEP_S,
            )
        )
        self.odometry_twist = twist

    def _sample_imu(self) -> None:
        noise, spec = self._noise, self._config.imu
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self.data.site(IMU).xmat)
        rate = np.array(self.data.sensor("rate").data) + noise.normal(0.0, spec.rate_noise, 3)
        force = np.array(self.data.sensor("acceleration").data) + noise.normal(0.0, spec.acceleration_noise, 3)
        self._imu = np.roll(quaternion, -1), rate, force
