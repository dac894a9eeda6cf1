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
    """Windows of chosen episodes, read and decoded once into memory.

    Args:
        dataset: The dataset.
        episodes: Numbers of the episodes to draw from.
        keys: Observation features; the action is always there.
        n_obs_steps: T, frames up to and including the current one.
        action_horizon: H, actions from the current one on.
        past_action: Whether windows also hold the actions of their older frames.
        goal_camera: Camera whose last frame of the episode is its ``goal.image``; None gives none.
        shapes: Feature key → shape at one tick, where it is to differ from the dataset's (a matrix as a vector).
        cache_folder: Keep frames in files here (memory-mapped, removed by whoever made the folder) in place of RAM.

    Attributes:
        frames: Feature key → [N, ...] over all frames of all chosen episodes, one after the other.
        tasks: Instruction of each chosen episode.

    Raises:
        DatasetError: An episode or key that the dataset lacks, no episode, or unreadable files.
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
        goal_camera: str | None = None,
        cache_folder: Path | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        if n_obs_steps < 1 or action_horizon < 1:
            raise ValueError(f"n_obs_steps {n_obs_steps} and action_horizon {action_horizon} must be at least 1")
        if not episodes:
            raise DatasetError(f"{dataset.root}: no episodes chosen.")
        self.keys = tuple(dict.fromkeys(key for key in keys if key != "action"))
        self.n_obs_steps, self.action_horizon, self._past_action = n_obs_steps, action_horizon, past_action
        lengths = np.array([dataset.lengths[dataset.episode(index, ()).index] for index in episodes], np.int64)
        ends = np.cumsum(lengths)
        self.episode_of_frame: NDArray[np.int64] = np.repeat(np.arange(len(lengths)), lengths)
        self._start, self._end = (ends - lengths)[self.episode_of_frame], ends[self.episode_of_frame]
        self.tasks = [dataset.task(index) for index in episodes]
        self._task_of_frame = self._tasks_of_frames(dataset, episodes)
        shapes = shapes or {}
        self.frames = {
            key: _allocate((int(ends[-1]), *shapes.get(key, spec.shape)), spec.dtype, key, cache_folder)
            for key, spec in ((key, dataset.feature(key)) for key in (*self.keys, "action"))
        }
        goals = []
        for index, first, last in zip(episodes, ends - lengths, ends, strict=True):
            wanted = {*self.frames} if goal_camera is None else {*self.frames, goal_camera}
            values = dataset.episode(index, wanted).values
            for key, frames in self.frames.items():
                frames[first:last] = values[key].reshape(frames[first:last].shape)
            if goal_camera is not None:
                goals.append(values[goal_camera][-1])
        self._goals = np.stack(goals) if goals else None

    def _tasks_of_frames(self, dataset: EpisodeDataset, episodes: Sequence[int]) -> list[str]:
        """Return every frame's instruction where one changes within an episode, else nothing."""
        if not any(dataset.has_several_tasks(index) for index in episodes):
            return []
        return [task for index in episodes for task in dataset.tasks_of_frames(index)]

    def __len__(self) -> int:
        """Return the number of windows, one for every frame."""
        return len(self._start)

    def item(self, i: int) -> dict[str, Any]:
        """Return the window of frame `i`: as `batch`, without the leading axis; ``task`` is a string."""
        batch = self.batch(np.array([i]))
        return {key: value[0] for key, value in batch.items()}

    def batch(self, indices: NDArray[np.integer[Any]]) -> dict[str, Any]:
        """Return the windows of frames `indices` [B], gathered without a loop over samples.

        Returns:
            Feature key → [B, T, ...]; ``action`` float32 [B, H, A]; ``action_is_pad`` bool [B, H];
            ``is_pad`` bool [B, T]; ``task`` list of B instructions; where asked for,
            ``past_action`` float32 [B, T-1, A] and ``goal.image`` uint8 [B, T, h, w, 3], T times the same. Not
            normalised.
        """
        start, end = self._start[indices, None], self._end[indices, None]
        past = indices[:, None] + np.arange(1 - self.n_obs_steps, 1)
        ahead = indices[:, None] + np.arange(self.action_horizon)
        result: dict[str, Any] = {key: self.frames[key][np.maximum(past, start)] for key in self.keys}
        result["action"] = self.frames["action"][np.minimum(ahead, end - 1)].astype(np.float32, copy=False)
        result["action_is_pad"] = ahead >= end
        if self._past_action:
            result["past_action"] = self.frames["action"][np.maximum(past[:, :-1], start)].astype(
                np.float32, copy=False
            )
        if self._goals is not None:
            result[GOAL_IMAGE] = self._goals[np.repeat(self.episode_of_frame[indices, None], self.n_obs_steps, axis=1)]
        result["is_pad"] = past < start
        if self._task_of_frame:
            result["task"] = [self._task_of_frame[index] for index in indices]
        else:
            result["task"] = [self.tasks[episode] for episode in self.episode_of_frame[indices]]
        return result


def _allocate(shape: tuple[int, ...], dtype: str, key: str, folder: Path | None) -> NDArray[Any]:
    if folder is None:
        return np.empty(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    return np.memmap(folder / f"{key}.bin", dtype, "w+", shape=shape)
