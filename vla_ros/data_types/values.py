"""What flows through the pipeline. numpy only; nothing here knows ROS, torch or a file format.

Axis legend, used as a suffix wherever an array has more than one axis:
B batch, T n_obs_steps, H action_horizon, A action_dim, S state_dim, K window samples, N points,
F fields of a point, C channels, h image height, w image width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second. Time is an integer number of nanoseconds everywhere inside the package."""

Array = NDArray[np.generic]


def tick_ns(index: int, rate_hz: int) -> int:
    """Stamp in ns of tick `index` on the grid of `rate_hz`, anchored at time zero of the clock.

    Integer arithmetic: the grid does not drift, and a node and a converter that see the same clock
    put their ticks at the same stamps.
    """
    return index * NANOSECONDS // rate_hz


def first_tick_at_or_after(stamp_ns: int, rate_hz: int) -> int:
    """Index of the first tick of the grid of `rate_hz` whose stamp is not before `stamp_ns`."""
    index = stamp_ns * rate_hz // NANOSECONDS
    while tick_ns(index, rate_hz) < stamp_ns:
        index += 1
    return index


@dataclass(frozen=True)
class Frame:
    """Everything observed at one tick: one row of a dataset, one step of an observation.

    Attributes:
        stamp_ns: The tick.
        values: Feature key → value. Images uint8 [h, w, 3] RGB; vectors float32 [S]; points
            float32 [N, F], rows of NaN where there is no point; IMU windows float32 [K, 6].
            Absent optional inputs have no entry.
        instruction: What the robot is told to do, empty when nothing was said.
    """

    stamp_ns: int
    values: Mapping[str, Array]
    instruction: str = ""


@dataclass(frozen=True)
class Observation:
    """The last `T` frames, oldest first: what a policy decides on.

    Attributes:
        stamp_ns: Tick of the newest frame; step 0 of the action chunk is due then.
        values: Feature key → [T, ...], dtype and trailing shape as in `Frame`.
        instruction: Instruction of the newest frame.
        is_pad: bool [T], True where the episode had not begun and the first frame was repeated.
    """

    stamp_ns: int
    values: Mapping[str, Array]
    instruction: str
    is_pad: NDArray[np.bool_]


@dataclass(frozen=True)
class ActionChunk:
    """`H` actions decided on one observation, indexed by time.

    Attributes:
        actions_HA: float64 [H, A] in the contract's units.
        observation_stamp_ns: Step k is due at ``observation_stamp_ns + k * period_ns``.
        period_ns: Time between steps.
        chunk_id: Counted from 1 since the runtime started.
        inference_ns: From the observation being assembled to the chunk being ready.
    """

    actions_HA: NDArray[np.float64]
    observation_stamp_ns: int
    period_ns: int
    chunk_id: int
    inference_ns: int = 0

    def __post_init__(self) -> None:
        if self.actions_HA.ndim != 2 or not len(self.actions_HA):
            raise ValueError(f"actions_HA must be [H, A] with H ≥ 1, got shape {self.actions_HA.shape}")
        self.actions_HA.setflags(write=False)  # published by swapping a reference: readers must not see it change


@dataclass(frozen=True)
class Command:
    """One action, ready for the safety filter and the encoders.

    Attributes:
        action: float64 [A] in the contract's units.
        effect_ns: The moment it takes effect.
        period_ns: How long it holds; a displacement is spread over this time.
        observation_stamp_ns: Observation it was decided on, 0 for a safe action.
        chunk_id: Prediction it comes from, 0 for a safe action.
        chunk_index: Step within the prediction.
    """

    action: NDArray[np.float64]
    effect_ns: int
    period_ns: int
    observation_stamp_ns: int = 0
    chunk_id: int = 0
    chunk_index: int = 0
