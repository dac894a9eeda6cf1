"""Noise that drives a robot off its expert's path, so that recordings show recovery. No ROS, no simulation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import ConfigError


class ActionNoise:
    """Adds normal noise to actions, held for some decisions.

    Args:
        scale: What noise of 1 means on each number, float64 [A]; 0 for numbers without noise.
        std: Standard deviation, in units of the scale.
        hold_ticks: Decisions for which one draw holds; longer pushes the robot farther.
        seed: An episode's draws depend on it and on the episode alone.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(self, scale: NDArray[np.float64], std: float, hold_ticks: int = 1, seed: int = 0) -> None:
        if not std >= 0.0:
            raise ConfigError(f"noise_std must be at least 0, got {std!r}")
        if hold_ticks < 1:
            raise ConfigError(f"noise_hold_ticks must be at least 1, got {hold_ticks!r}")
        self._numbers = np.flatnonzero(scale)
        self._scale, self._std, self._hold_ticks, self._seed = scale[self._numbers], std, hold_ticks, seed
        self.begin_episode(0)

    def begin_episode(self, episode_seed: int) -> None:
        """Start from (seed, `episode_seed`)."""
        self._generator = np.random.default_rng((self._seed, episode_seed))
        self._noise: NDArray[np.float64] = np.zeros(len(self._numbers))
        self._tick = 0

    def __call__(self, intended: NDArray[np.float64], contract: RobotContract) -> NDArray[np.float64]:
        """Return an action with noise, within the contract's limits, float64 [A]."""
        if self._tick % self._hold_ticks == 0 and self._std > 0.0:
            self._noise = self._generator.normal(0.0, self._std, len(self._numbers)) * self._scale
        self._tick += 1
        executed = np.array(intended, np.float64)
        executed[self._numbers] += self._noise
        limits = contract.commanded.action.limits
        return np.clip(executed, limits.lower, limits.upper) if limits.lower and self._std > 0.0 else executed


def noise_scale(robot: Any, contract: RobotContract) -> NDArray[np.float64]:
    """Return what noise of 1 means on each number of a robot's action, float64 [A].

    Its own `noise_scale`, else half the range of the contract's limits, but none on a gripper; zeros where there are no
    limits.
    """
    action = contract.commanded.action
    own = getattr(robot, "noise_scale", None)
    if own is not None:
        return np.asarray(own, np.float64)
    if not action.limits.lower:
        return np.zeros(len(action.names))
    scale: NDArray[np.float64] = (np.array(action.limits.upper) - np.array(action.limits.lower)) / 2.0
    scale[~np.isfinite(scale)] = 0.0
    if action.gripper_index is not None:
        scale[action.gripper_index] = 0.0
    return scale
