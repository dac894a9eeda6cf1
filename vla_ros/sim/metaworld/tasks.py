"""MetaWorld's tasks by name: an instrumented environment whose start is a function of a seed.

Owns everything that reaches into MetaWorld's environments: reset, randomisation, the sensors added to the
model. No rendering, no ROS.

MetaWorld draws an episode's start (object and goal positions) uniformly from the task's reset space. Its
benchmarks freeze fifty such draws; here the draw is left free and comes from a generator seeded per episode,
so every seed is a start of its own from the task's full distribution, and equal seeds are equal starts.
"""

import sys
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from numpy.typing import NDArray

from vla_ros.data_types import UserError, nearest_name

IMU_SITE = "vla_ros_imu"
ACCELEROMETER = "vla_ros_accelerometer"
GYROSCOPE = "vla_ros_gyroscope"


class TaskError(UserError):
    """There is no such task."""


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks, e.g. ``push-v3``."""
    return tuple(ALL_V3_ENVIRONMENTS)


def check_task(task: str) -> None:
    """Refuse a task that does not exist.

    Raises:
        TaskError: Names the nearest task.
    """
    if task not in ALL_V3_ENVIRONMENTS:
        raise TaskError(
            f"'{task}' is not a task of MetaWorld, which has {len(ALL_V3_ENVIRONMENTS)}: "
            f"{', '.join(sorted(ALL_V3_ENVIRONMENTS))}.{nearest_name(task, ALL_V3_ENVIRONMENTS)}"
        )


def make_environment(task: str, gripper_slowdown: float = 1.0) -> Any:
    """Build a task's environment with an IMU in the hand.

    The environment never truncates an episode and shows the goal in its observation.

    Args:
        task: Name of the task.
        gripper_slowdown: How many times longer than MetaWorld's the fingers take to close, at the same force.

    Returns:
        A `metaworld.sawyer_xyz_env.SawyerXYZEnv`; `seeded_reset` starts an episode.

    Raises:
        TaskError: There is no such task.
    """
    check_task(task)
    base = ALL_V3_ENVIRONMENTS[task]
    environment: Any = type(base.__name__, (_Instrumented, base), {"gripper_slowdown": gripper_slowdown})()
    environment.max_path_length = sys.maxsize  # how long an episode lasts is for its runner to decide
    environment._set_task_called = True  # noqa: SLF001 (MetaWorld's own benchmarks set these from outside)
    environment._freeze_rand_vec = False  # noqa: SLF001
    environment.seeded_rand_vec = True
    environment._partially_observable = False  # noqa: SLF001 (the scripted experts read the goal)
    environment.__dict__.pop("sawyer_observation_space", None)  # cached with the goal hidden: it would clip it to zero
    return environment


def seeded_reset(environment: Any, seed: int) -> NDArray[np.float64]:
    """Start the episode of a seed and return MetaWorld's observation, float64 [39]."""
    environment.seed(int(seed))
    observation, _ = environment.reset()
    return np.asarray(observation, np.float64)


def make_expert(task: str) -> Any:
    """Return the task's scripted policy; ``get_action(observation [39])`` gives four numbers, not clipped.

    Raises:
        TaskError: There is no such task.
    """
    check_task(task)
    return ENV_POLICY_MAP[task]()


class _Instrumented:
    """Compiles MetaWorld's model with an accelerometer and a gyroscope in the hand, and slower fingers."""

    gripper_slowdown: float

    def _initialize_simulation(self) -> tuple[Any, Any]:
        spec = mujoco.MjSpec.from_file(self.fullpath)  # type: ignore[attr-defined] # of gymnasium's MujocoEnv
        spec.body("hand").add_site(name=IMU_SITE, size=[0.001] * 3, group=5)  # group 5 is not drawn
        for name, kind in (
            (ACCELEROMETER, mujoco.mjtSensor.mjSENS_ACCELEROMETER),
            (GYROSCOPE, mujoco.mjtSensor.mjSENS_GYRO),
        ):
            spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=IMU_SITE)
        for finger in ("r_close", "l_close"):
            # m q'' + d q' = force runs k times slower with k² m and k d; the force stays.
            spec.joint(finger).armature *= self.gripper_slowdown**2
            spec.joint(finger).damping *= self.gripper_slowdown
        model = spec.compile()
        return model, mujoco.MjData(model)
