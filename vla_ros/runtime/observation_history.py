"""The last frames of an episode as one observation. Knows ticks; knows neither policies nor messages."""

from collections import deque
from collections.abc import Collection

import numpy as np

from vla_ros.data_types import NANOSECONDS, Frame, Observation, ObservationError


class ObservationHistory:
    """Keeps `n_obs_steps` consecutive frames and joins them to an observation.

    A dataset's windows are consecutive ticks of one episode, so a history with a hole would be something that no policy
    was trained on. When a tick is missing between two frames, the history therefore begins anew at the later one, as at
    the start of an episode: its first frame is repeated and marked in ``is_pad``. So it does where an optional feature
    comes or goes.

    Args:
        n_obs_steps: T, frames in an observation.
        fps: Ticks per second; consecutive frames are one tick apart.
        keys: Features that every frame must have; None takes those of the newest frame.
        optional: Features taken where they are there.
    """

    def __init__(
        self, n_obs_steps: int, fps: int, keys: Collection[str] | None = None, optional: Collection[str] = ()
    ) -> None:
        self._n_obs_steps = n_obs_steps
        self._period_ns = NANOSECONDS // fps
        self._keys = None if keys is None else tuple(keys)
        self._optional = tuple(optional)
        self._frames: deque[Frame] = deque(maxlen=n_obs_steps)

    def __len__(self) -> int:
        """Return how many true frames there are, at most `n_obs_steps`."""
        return len(self._frames)

    def clear(self) -> None:
        """Forget every frame: a new episode begins."""
        self._frames.clear()

    def push(self, frame: Frame) -> None:
        """Append the frame of the next tick.

        Raises:
            ObservationError: The frame lacks a feature that the history was built for; names all of them.
            ValueError: The frame is not later than the newest one; `clear` first when time went back.
        """
        missing = sorted(set(self._keys or ()) - set(frame.values))
        if missing:
            raise ObservationError(f"The frame at {frame.stamp_ns} ns lacks {', '.join(missing)}.")
        if self._frames:
            newest_ns = self._frames[-1].stamp_ns
            step_ns = frame.stamp_ns - newest_ns
            if step_ns <= 0:
                raise ValueError(f"frame at {frame.stamp_ns} ns is not later than the newest, {newest_ns} ns")
            # Grid stamps are rounded down to whole nanoseconds, so neighbours may be 1 ns more than the period apart.
            if step_ns > self._period_ns + 1 or self._given(frame) != self._given(self._frames[-1]):
                self._frames.clear()
        self._frames.append(frame)

    def observation(self) -> Observation:
        """Join the frames, oldest first, repeating the first one where the episode had not begun.

        Raises:
            ObservationError: No frame was pushed yet.
        """
        if not self._frames:
            raise ObservationError("There is no frame yet; observe one before predicting.")
        n_pad = self._n_obs_steps - len(self._frames)
        frames = [self._frames[0]] * n_pad + list(self._frames)
        newest = frames[-1]
        keys = newest.values if self._keys is None else (*self._keys, *self._given(newest))
        return Observation(
            stamp_ns=newest.stamp_ns,
            values={key: np.stack([frame.values[key] for frame in frames]) for key in keys},
            instruction=newest.instruction,
            is_pad=np.arange(self._n_obs_steps) < n_pad,
        )

    def _given(self, frame: Frame) -> tuple[str, ...]:
        return tuple(key for key in self._optional if key in frame.values)
