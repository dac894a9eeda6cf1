"""Training windows over episodes: the last T frames and the next H actions of every frame.

Windows never reach across an episode's ends: the first frame is repeated before the begin, the last action
after the end, and masks say where.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import GOAL_IMAGE
from vla_ros.data_types import DatasetError
from vla_ros.datasets.frame_store import CACHE_BYTES, FrameStore
from vla_ros.datasets.reader import EpisodeDataset


def split_episodes(n: int, fraction: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split episode numbers 0 … n-1 at random into training and validation.

    Whole episodes go to one side: neighbouring frames are nearly equal, and a split by frame would test on
    what was trained.

    Args:
        n: Number of episodes.
        fraction: Share for validation, in [0, 1); above 0 at least one episode goes there.
        seed: Decides the draw.

    Returns:
        Training and validation episodes, each in ascending order.

    Raises:
        DatasetError: One of the sides would need more episodes than there are.
    """
    if not 0.0 <= fraction < 1.0:
        raise DatasetError(f"validation fraction must be in [0, 1), got {fraction:g}.")
    held_out = max(1, round(n * fraction)) if fraction > 0.0 else 0
    if n - held_out < 1:
        raise DatasetError(
            f"{n} episodes cannot be split with a validation fraction of {fraction:g}; record more episodes."
        )
    order = np.random.default_rng(seed).permutation(n)
    return tuple(sorted(map(int, order[held_out:]))), tuple(sorted(map(int, order[:held_out])))


class WindowSampler:
    """Windows of chosen episodes, read and decoded when they are asked for; may be used by threads.

    Args:
        dataset: The dataset.
        episodes: Numbers of the episodes to draw from.
        keys: Observation features; the action is always there.
        n_obs_steps: T, frames up to and including the current one.
        action_horizon: H, actions from the current one on.
        past_action: Whether windows also hold the actions of their older frames.
        progress: Whether windows also hold how much of the episode has passed at each frame.
        goal_camera: Camera whose last frame of the episode is its ``goal.image``; None gives none.
        shapes: Feature key → shape at one tick, where it is to differ from the dataset's (a matrix as a vector).
        cache_folder: Where decoded frames are kept; None takes the system's folder for temporary files.
        cache_bytes: How much of that disk may be used; 0 decodes every frame whenever it is asked for.

    Attributes:
        episode_of_frame: int64 [N], for every frame the place of its episode in `episodes`.
        tasks: Instruction of each chosen episode.

    Raises:
        DatasetError: An episode or key that the dataset lacks, no episode, or files are missing or malformed.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        episodes: Sequence[int],
        keys: Collection[str],
        n_obs_steps: int,
        action_horizon: int,
        *,
        past_action: bool = False,
        progress: bool = False,
        goal_camera: str | None = None,
        cache_folder: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        if n_obs_steps < 1 or action_horizon < 1:
            raise ValueError(f"n_obs_steps {n_obs_steps} and action_horizon {action_horizon} must be at least 1")
        if not episodes:
            raise DatasetError(f"{dataset.root}: no episodes chosen.")
        self.keys = tuple(dict.fromkeys(key for key in keys if key != "action"))
        self.n_obs_steps, self.action_horizon, self._past_action = n_obs_steps, action_horizon, past_action
        self._goal_camera, self._progress = goal_camera, progress
        self._store = FrameStore(
            dataset,
            episodes,
            (*self.keys, "action", *([] if goal_camera is None else [goal_camera])),
            shapes=shapes,
            cache_folder=cache_folder,
            cache_bytes=cache_bytes,
        )
        lengths = np.array([dataset.lengths[index] for index in episodes], np.int64)
        ends = np.cumsum(lengths)
        self.episode_of_frame: NDArray[np.int64] = np.repeat(np.arange(len(lengths)), lengths)
        self._first, self._end = ends - lengths, ends
        self.tasks = [dataset.task(index) for index in episodes]
        self._several = {
            place: dataset.tasks_of_frames(index)
            for place, index in enumerate(episodes)
            if dataset.has_several_tasks(index)
        }

    @property
    def instructions(self) -> tuple[str, ...]:
        """All instructions that windows can have, each once."""
        within = (task for tasks in self._several.values() for task in tasks)
        return tuple(dict.fromkeys((*self.tasks, *within)))

    def __len__(self) -> int:
        """Return the number of windows, one for every frame."""
        return len(self.episode_of_frame)

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the windows of one epoch: every one, once, in a random order."""
        return rng.permutation(len(self))

    def item(self, i: int) -> dict[str, Any]:
        """Return the window of frame `i`: as `batch`, without the leading axis; ``task`` is a string."""
        batch = self.batch(np.array([i]))
        return {key: value[0] for key, value in batch.items()}

    def batch(self, indices: NDArray[np.integer[Any]]) -> dict[str, Any]:
        """Return the windows of frames `indices` [B]; a frame that several of them share is decoded once.

        Returns:
            Feature key → [B, T, ...]; ``action`` float32 [B, H, A]; ``action_is_pad`` bool [B, H];
            ``is_pad`` bool [B, T]; ``task`` list of B instructions; where asked for,
            ``past_action`` float32 [B, T-1, A], ``progress`` float32 [B, T], 0 at an episode's first frame and 1 at
            its last, and ``goal.image`` uint8 [B, T, h, w, 3], T times the same. Not
            normalised.

        Raises:
            DatasetError: A file is damaged, or does not hold what the dataset says.
        """
        episodes = self.episode_of_frame[indices]
        start, end = self._first[episodes, None], self._end[episodes, None]
        past = indices[:, None] + np.arange(1 - self.n_obs_steps, 1)
        ahead = indices[:, None] + np.arange(self.action_horizon)
        known = np.maximum(past, start)
        result: dict[str, Any] = {key: self._store.read(key, known) for key in self.keys}
        result["action"] = self._action(np.minimum(ahead, end - 1))
        result["action_is_pad"] = ahead >= end
        if self._past_action:
            result["past_action"] = self._action(known[:, :-1])
        if self._goal_camera is not None:
            result[GOAL_IMAGE] = self._store.read(self._goal_camera, np.repeat(end - 1, self.n_obs_steps, axis=1))
        if self._progress:
            result["progress"] = ((known - start) / np.maximum(end - start - 1, 1)).astype(np.float32)
        result["is_pad"] = past < start
        result["task"] = [self._task(int(e), int(i)) for e, i in zip(episodes, indices, strict=True)]
        return result

    def close(self) -> None:
        """Close files and free the cache."""
        self._store.close()

    def _action(self, frames: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        return self._store.read("action", frames).astype(np.float32, copy=False)

    def _task(self, episode: int, frame: int) -> str:
        tasks = self._several.get(episode)
        return self.tasks[episode] if tasks is None else tasks[frame - int(self._first[episode])]
