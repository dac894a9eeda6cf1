"""What a world is: things put down for a seed, what moves, when the task is done, and the expert who knows the way."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

BELOW = -5.0
"""Height in m of what is not there in an episode."""

_STILL = np.zeros(3)


@dataclass(frozen=True)
class Situation:
    """What a world and its expert are told of the base.

    Attributes:
        pose: True x, y in m, yaw in rad.
        speed: True, ahead, m/s.
        time_s: Since the episode began.
        touched: Whether the base has met anything but the floor.
        specific_force: Of the IMU's place without noise, m/s² [3].
    """

    pose: Vector
    speed: float
    time_s: float
    touched: bool
    specific_force: Vector


class World:
    """One kind of world. Subclasses say what is in it.

    Attributes:
        task: Name of the task.
        is_dark: Whether cameras see nothing.
        goal: x, y in m of the place that the base is told to go to.
    """

    task: str
    is_dark = False
    goal: Vector

    def elements(self) -> str:
        """Return the MJCF of what is in the world; what differs from seed to seed is a mocap body."""
        raise NotImplementedError

    def place(self, data: Any, rng: np.random.Generator) -> tuple[float, float, float]:
        """Put everything down for an episode and return where the base starts: x, y in m, yaw in rad.

        Args:
            data: `mujoco.MjData`; its mocap bodies are moved.
            rng: What differs from episode to episode is drawn from it.
        """
        raise NotImplementedError

    def advance(self, data: Any, situation: Situation) -> None:
        """Move what moves, once a step."""

    def velocity_of(self, body: int) -> Vector:  # noqa: ARG002 (of those that move)
        """Return a body's velocity in the world, m/s [3]."""
        return _STILL

    def is_done(self, situation: Situation) -> bool:
        """Return whether the task is done."""
        raise NotImplementedError

    def failure(self, situation: Situation) -> str:
        """Return why the task cannot be done any more, in a few words; empty while it can."""
        raise NotImplementedError

    def expert(self, situation: Situation) -> tuple[float, float]:
        """Return the speed, m/s, and rate of turn, rad/s, that lead to the goal."""
        raise NotImplementedError

    def path(self, situation: Situation) -> Vector:
        """Return the way that the expert means to go, float64 [N, 2] in the world, from where the base is."""
        raise NotImplementedError


def mocap_body(name: str, geom: str) -> str:
    """Return the MJCF of a body that is put down anew in every episode, out of sight at first."""
    return f'<body name="{name}" mocap="true" pos="0 0 {BELOW}">{geom}</body>'


def put(model: Any, data: Any, name: str, position: Any, yaw: float = 0.0) -> None:
    """Put a mocap body down, at m [3] and a turn about z in rad."""
    index = int(model.body(name).mocapid[0])
    data.mocap_pos[index] = position
    data.mocap_quat[index] = np.cos(yaw / 2.0), 0.0, 0.0, np.sin(yaw / 2.0)


def wall(x: float, y: float, half_x: float, half_y: float) -> str:
    """Return the MJCF of a wall of 0.8 m height around x, y in m."""
    return f'<geom type="box" pos="{x} {y} .4" size="{half_x} {half_y} .4" rgba=".7 .7 .65 1"/>'
