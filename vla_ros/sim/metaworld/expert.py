"""The demonstrator: MetaWorld's scripted policy of a task as end-effector displacements.

Owns the conversion from MetaWorld's action to metres. No ROS, no simulation: state in, displacement out.
"""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import ConfigError
from vla_ros.sim.metaworld.tasks import make_expert

M_PER_UNIT = 0.01
"""Displacement in m, over one control period, of MetaWorld's action 1.0: 0.2 m/s at 20 Hz."""


class Demonstrator:
    """Decides on the simulator's privileged state.

    Args:
        task: MetaWorld task.
        policy: ``expert``, or ``random`` for uniform actions, the baseline that shows what luck achieves.
        seed: Of random actions; an episode's draws depend on it and on the episode alone.

    Raises:
        TaskError: There is no such task.
        ConfigError: There is no such policy.
    """

    def __init__(self, task: str, policy: Literal["expert", "random"] = "expert", seed: int = 0) -> None:
        if policy not in ("expert", "random"):
            raise ConfigError(f"policy '{policy}' is not one of expert, random")
        self.task, self._random, self._seed = task, policy == "random", seed
        # The experts ask for more than the arm may do and warn of it at every step; `decide` clips.
        warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
        self.begin_episode(0)

    def begin_episode(self, episode_seed: int) -> None:
        """Forget the last episode; random actions start from (seed, `episode_seed`)."""
        self._expert = make_expert(self.task)  # a few experts remember what they did
        self._generator = np.random.default_rng((self._seed, episode_seed))

    def decide(self, privileged_observation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the action for a state.

        Args:
            privileged_observation: MetaWorld's observation with the goal visible, float64 [39].

        Returns:
            float64 [4]: dx, dy, dz in m over one period, gripper −1 (open) … 1 (closed).
        """
        if self._random:
            action = self._generator.uniform(-1.0, 1.0, 4)
        else:
            action = np.asarray(self._expert.get_action(privileged_observation), np.float64)
        # the experts' gains ask for more than a step may be
        clipped: NDArray[np.float64] = np.clip(action, -1.0, 1.0)
        clipped[:3] *= M_PER_UNIT
        return clipped
