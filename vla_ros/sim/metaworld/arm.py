"""The simulated arm: MetaWorld's physics behind a robot's interface. No ROS, no rendering, no wall clock.

Frames and units: the base frame ``base_link`` is MuJoCo's world (x to the robot's right, y away from it,
z up; the table top is z = 0); the end effector is MetaWorld's body ``hand``, whose orientation the simulator
holds fixed. m, s, rad; quaternions are x, y, z, w.

Motion is commanded as a velocity of the end effector for one step of 12.5 ms. MetaWorld's own action is a
displacement per step, 1.0 being 1 cm, so the fastest motion is 0.8 m/s along each axis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS, ConfigError, nearest_name
from vla_ros.sim.cameras import configure_cameras
from vla_ros.sim.lidar import Lidar
from vla_ros.sim.metaworld.config import SimConfig
from vla_ros.sim.metaworld.tasks import ACCELEROMETER, GYROSCOPE, make_environment, seeded_reset

STEP_NS = 12_500_000
"""Simulated time of one step: MetaWorld runs at 80 Hz."""
GRIPPER_OPENING = "gripper_opening"
"""Name of the simulated source that measures the distance between the fingers."""
GRIPPER_OPEN, GRIPPER_CLOSED = -1.0, 1.0
"""Ends of the gripper command: MetaWorld's own fourth number."""

_ACTION_PER_M = 100.0  # MetaWorld's action_scale is 1/100: its action 1.0 moves the end effector's set point by 1 cm
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ImuSample:
    """One reading of the IMU, in the IMU's frame (the hand's).

    Attributes:
        orientation: Of the IMU in the base frame, quaternion [4] x, y, z, w.
        angular_velocity: rad/s [3].
        linear_acceleration: Specific force in m/s² [3]: +9.81 along up when at rest (REP-145).
    """

    orientation: _Vector
    angular_velocity: _Vector
    linear_acceleration: _Vector


class MetaWorldRobot:
    """One arm at one task.

    Args:
        task: Name of a MetaWorld task, e.g. ``push-v3``.
        config: Its sensors.
        seed: Start of the first episode.

    Raises:
        TaskError: There is no such task.
        ConfigError: The configuration names a camera or joint that the model lacks.
    """

    def __init__(self, task: str, config: SimConfig, seed: int = 0) -> None:
        self.task = task
        self.config = config
        self._environment = make_environment(task, config.gripper_slowdown)
        self.model: Any = self._environment.model
        configure_cameras(self.model, config.cameras, config.source)
        self._joints = _joint_indices(self.model, config.joints, config.source)
        self._state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        self._lidars = {key: Lidar(spec) for key, spec in config.lidars.items()}
        self.reset(seed)

    @property
    def _data(self) -> Any:
        return self._environment.data

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`; equal seeds give equal episodes, bit for bit."""
        self.seed = int(seed)
        self.privileged_observation: _Vector = seeded_reset(self._environment, self.seed)
        self.success, self.reward = False, 0.0
        self._sag = np.zeros(3)
        for _ in range(max(1, round(self.config.settle_s * NANOSECONDS / STEP_NS))):
            self.step(np.zeros(3), GRIPPER_OPEN)
        # The weld between set point and hand yields a few mm to gravity.
        self._sag = self.position - self._data.mocap_pos[0]
        self.success = False

    def step(self, velocity: _Vector, gripper: float) -> None:
        """Simulate 12.5 ms.

        Args:
            velocity: Of the end effector in the base frame, m/s [3].
            gripper: From −1 (open) to 1 (closed).
        """
        motion = np.asarray(velocity, np.float64) * (_ACTION_PER_M * STEP_NS / NANOSECONDS)
        action = np.clip(np.append(motion, gripper), -1.0, 1.0)
        observation, reward, _, _, info = self._environment.step(action)
        self.privileged_observation = observation
        self.reward = float(reward)
        self.success = self.success or bool(info["success"])

    @property
    def position(self) -> _Vector:
        """Measured position of the end effector, m [3]."""
        return np.array(self._data.body("hand").xpos)

    @property
    def set_point(self) -> _Vector:
        """Where the end effector has been told to be, m [3]; the measured position follows it."""
        return np.array(self._data.mocap_pos[0]) + self._sag

    @property
    def orientation(self) -> _Vector:
        """Measured orientation of the end effector, quaternion [4] x, y, z, w."""
        return np.roll(self._data.body("hand").xquat, -1)

    def twist(self) -> _Vector:
        """Return the end effector's velocity in the base frame: linear m/s, then angular rad/s, [6]."""
        spatial = np.zeros(6)
        body = mujoco.mjtObj.mjOBJ_BODY
        mujoco.mj_objectVelocity(self.model, self._data, body, self._data.body("hand").id, spatial, 0)
        return np.roll(spatial, 3)  # MuJoCo puts the angular part first

    def joint_state(self, names: Sequence[str]) -> tuple[_Vector, _Vector]:
        """Return position and velocity of joints by their contract's names: rad and rad/s, the gripper m and m/s.

        Raises:
            ConfigError: A name has no source in the configuration.
        """
        positions, velocities = np.empty(len(names)), np.empty(len(names))
        for i, name in enumerate(names):
            if name not in self._joints:
                raise ConfigError(
                    f"{self.config.source}: joints has no source for '{name}', which the contract publishes."
                    f"{nearest_name(name, self._joints)}"
                )
            source = self._joints[name]
            if source is None:
                positions[i], velocities[i] = self._gripper_opening()
            else:
                positions[i], velocities[i] = self._data.qpos[source[0]], self._data.qvel[source[1]]
        return positions, velocities

    def _gripper_opening(self) -> tuple[float, float]:
        """Distance between the claws in m, as MetaWorld measures it, and its rate in m/s."""
        data = self._data
        opening = float(np.linalg.norm(data.body("rightclaw").xpos - data.body("leftclaw").xpos))
        closing = float(data.joint("r_close").qvel[0] - data.joint("l_close").qvel[0])
        return opening, -closing

    def imu(self) -> ImuSample:
        """Return the IMU in the hand; MuJoCo's own accelerometer and gyroscope, without noise or bias."""
        return ImuSample(
            self.orientation,
            np.array(self._data.sensor(GYROSCOPE).data),
            np.array(self._data.sensor(ACCELEROMETER).data),
        )

    def lidar(self, key: str) -> NDArray[np.float32]:
        """Return the points of a scanner, float32 [N, 3] in m in its own frame; N varies."""
        return self._lidars[key].scan(self.model, self._data)

    def snapshot(self, into: Any = None) -> Any:
        """Copy the state for a renderer, so that the physics may go on meanwhile.

        Args:
            into: An earlier snapshot of this robot to overwrite, or None for a new one.

        Returns:
            A `mujoco.MjData`, with the task's target where it counts.
        """
        into = mujoco.MjData(self.model) if into is None else into
        # State plus kinematics is all that rendering needs, in 10 µs where copying the whole MjData takes 1.2 ms.
        mujoco.mj_getState(self.model, self._data, self._state, _STATE)
        mujoco.mj_setState(self.model, into, self._state, _STATE)
        mujoco.mj_kinematics(self.model, into)
        mujoco.mj_comPos(self.model, into)
        mujoco.mj_camlight(self.model, into)
        for name, position in self._environment._target_site_config:  # noqa: SLF001 (MetaWorld has no public name for it)
            into.site(name).xpos = np.asarray(position)[:3]  # some tasks move their target without telling MuJoCo
        return into


def quaternion_of(rotation: _Vector) -> _Vector:
    """Return a rotation matrix [3, 3] as a quaternion [4] x, y, z, w."""
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
    return np.roll(quaternion, -1)


def _joint_indices(model: Any, joints: Mapping[str, str], source: str) -> dict[str, tuple[int, int] | None]:
    """Contract name → (index in qpos, index in qvel), None for the gripper's opening."""
    names = [model.joint(index).name for index in range(model.njnt)]
    indices: dict[str, tuple[int, int] | None] = {}
    for name, target in joints.items():
        if target == GRIPPER_OPENING:
            indices[name] = None
        elif target in names:
            joint = model.joint(target)
            indices[name] = (int(joint.qposadr[0]), int(joint.dofadr[0]))
        else:
            allowed = [n for n in names if n] + [GRIPPER_OPENING]
            raise ConfigError(
                f"{source}: joints.{name} '{target}' is not a joint of this model; joints are {', '.join(allowed)}."
                f"{nearest_name(target, allowed)}"
            )
    return indices
