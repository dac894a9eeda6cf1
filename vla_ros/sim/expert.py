"""The demonstrator: MetaWorld's scripted policy of a task as end-effector displacements, with optional noise.

Owns the conversion from MetaWorld's action to the contract's units and the noise that drives the arm off the
expert's path, so that recordings show recovery. No ROS, no simulation: state in, displacement out.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import ConfigError
from vla_ros.sim.tasks import make_expert

M_PER_UNIT = 0.01
"""Displacement in m, over one control period, of MetaWorld's action 1.0: 0.2 m/s at 20 Hz."""


@dataclass(frozen=True)
class ExpertAction:
    """One decision.

    Attributes:
        intended: float64 [4]: dx, dy, dz in m over one period, gripper −1 (open) … 1 (closed), without noise.
        executed: The same with noise, what the robot shall do.
    """

    intended: NDArray[np.float64]
    executed: NDArray[np.float64]


class Demonstrator:
    """Decides on the simulator's privileged state.

    Args:
        task: MetaWorld task.
        policy: ``expert``, or ``random`` for uniform actions, the baseline that shows what luck achieves.
        noise_std: Standard deviation of the noise on the motion, in units of MetaWorld's action (1.0 = 1 cm a period).
        noise_hold_ticks: Decisions for which one draw of the noise holds; longer pushes the arm farther.
        seed: Of noise and random actions; an episode's draws depend on it and on the episode alone.

    Raises:
        TaskError: There is no such task.
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        task: str,
        policy: Literal["expert", "random"] = "expert",
        noise_std: float = 0.0,
        noise_hold_ticks: int = 1,
        seed: int = 0,
    ) -> None:
        if policy not in ("expert", "random"):
            raise ConfigError(f"policy '{policy}' is not one of expert, random")
        if not noise_std >= 0.0:
            raise ConfigError(f"noise_std must be at least 0, got {noise_std!r}")
        if noise_hold_ticks < 1:
            raise ConfigError(f"noise_hold_ticks must be at least 1, got {noise_hold_ticks!r}")
        self.task, self._random = task, policy == "random"
        # The experts ask for more than the arm may do and warn of it at every step; `decide` clips.
        warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
        self._noise_std, self._hold_ticks, self._seed = noise_std, noise_hold_ticks, seed
        self.begin_episode(0)

    def begin_episode(self, episode_seed: int) -> None:
        """Forget the last episode; noise and random actions start from (seed, `episode_seed`)."""
        self._expert = make_expert(self.task)  # a few experts remember what they did
        self._generator = np.random.default_rng((self._seed, episode_seed))
        self._noise: NDArray[np.float64] = np.zeros(3)
        self._tick = 0

    def decide(self, privileged_observation: NDArray[np.float64]) -> ExpertAction:
        """Return the action for a state.

        Args:
            privileged_observation: MetaWorld's observation with the goal visible, float64 [39].
        """
        if self._random:
            action = self._generator.uniform(-1.0, 1.0, 4)
        else:
            action = np.asarray(self._expert.get_action(privileged_observation), np.float64)
        intended = np.clip(action, -1.0, 1.0)  # the experts' gains ask for more than a step may be
        if self._tick % self._hold_ticks == 0 and self._noise_std > 0.0:
            self._noise = self._generator.normal(0.0, self._noise_std, 3)
        self._tick += 1
        executed = np.append(np.clip(intended[:3] + self._noise, -1.0, 1.0), intended[3])
        scale = np.array([M_PER_UNIT] * 3 + [1.0])
        return ExpertAction(intended * scale, executed * scale)
