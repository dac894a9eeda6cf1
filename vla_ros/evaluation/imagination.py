"""What a world model imagines beside what was recorded, as numbers and as a picture. No training.

Axis legend: T frames, h, w pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.checkpoint import Checkpoint
from vla_ros.contract import GOAL_IMAGE
from vla_ros.data_types import ConfigError
from vla_ros.datasets import EpisodeDataset, WindowSampler, check_fits
from vla_ros.world_models import WorldModelPolicy, open_loop

_SHOWN = 10  # frames in the picture
_SCALE = 96  # least height of a frame in the picture, in pixels


@dataclass(frozen=True)
class Imagination:
    """One stretch of an episode, seen and imagined.

    Attributes:
        context: Frames that the model saw; all later ones are imagined from the actions alone.
        recorded: Image key → uint8 [T, h, w, 3], RGB, as the model gets them.
        imagined: The same, as the model decodes them.
        errors: Ticks after the context → mean squared error of all inputs, in normalised numbers.
        copied: The same for repeating the context's last frame.
    """

    context: int
    recorded: dict[str, NDArray[np.uint8]]
    imagined: dict[str, NDArray[np.uint8]]
    errors: dict[int, float]
    copied: dict[int, float]

    def save(self, path: Path) -> None:
        """Write a PNG: for each camera recorded frames above imagined ones, a line where imagination begins.

        Raises:
            ConfigError: There is no camera, or the file cannot be written.
        """
        if not self.recorded:
            raise ConfigError("the world model sees no camera; there is nothing to draw.")
        rows = [
            _row(frames, self.context) for key in self.recorded for frames in (self.recorded[key], self.imagined[key])
        ]
        width = max(row.shape[1] for row in rows)
        picture = np.concatenate([np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            written, data = cv2.imencode(".png", picture[..., ::-1])
            if not written:
                raise RuntimeError("cv2 could not encode the picture")
            path.write_bytes(data.tobytes())
        except OSError as reason:
            raise ConfigError(f"{path}: cannot be written: {reason.strerror}.") from reason


def imagine(checkpoint: Checkpoint, dataset: EpisodeDataset, episode: int, context: int, ticks: int) -> Imagination:
    """Let a world model see the first frames of an episode and imagine the next ones.

    Args:
        checkpoint: Of a world model.
        dataset: Recorded with the same robot.
        episode: Which episode.
        context: Frames that are seen, at least 1.
        ticks: Frames that are imagined, at least 1.

    Raises:
        ConfigError: The checkpoint's policy is no world model, or the episode is too short.
        DatasetError: There is no such episode, or the dataset is another robot's.
    """
    policy, processors = checkpoint.policy, checkpoint.processors
    if not isinstance(policy, WorldModelPolicy):
        raise ConfigError(
            f"{checkpoint.path}: holds a policy '{policy.name}', which imagines nothing; train a world_model."
        )
    keys = [key for key in processors.inputs if key != GOAL_IMAGE]
    if dataset.contract_path.is_file():
        checkpoint.check_robot(dataset.contract())
    else:
        check_fits(dataset, checkpoint.contract, keys)
    length, frames = len(dataset.tasks_of_frames(episode)), context + ticks
    if length < frames:
        raise ConfigError(
            f"{dataset.root}: episode {episode} has {length} frames, fewer than {context} of context and {ticks} to "
            "imagine."
        )
    sampler = WindowSampler(dataset, [episode], keys, frames, 1, past_action=True, cache_bytes=0)
    batch = processors.batch(sampler.batch(np.array([frames - 1])))
    decoded = open_loop(policy, batch, context)
    images = [key for key in keys if policy.config.inputs[key].kind == "image"]

    def squared(place: int, other: dict[str, Any], at: int) -> float:
        terms = [(other[key][:, at] - batch[key][:, place]).square().mean() for key in keys]
        return float(torch.stack(terms).mean())

    places = {ahead: context - 1 + ahead for ahead in (1, 5, 10, 20, 30) if ahead <= ticks}
    return Imagination(
        context,
        {key: processors.pictures(key, batch[key][0]) for key in images},
        {key: processors.pictures(key, decoded[key][0]) for key in images},
        {ahead: squared(place, decoded, place) for ahead, place in places.items()},
        {ahead: squared(place, batch, context - 1) for ahead, place in places.items()},
    )


def _row(frames: NDArray[np.uint8], context: int) -> NDArray[np.uint8]:
    """Return some frames side by side, evenly spread, with a line before the first imagined one."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_SHOWN, len(frames))).round().astype(int))
    scale = max(1, -(-_SCALE // frames.shape[1]))
    parts: list[NDArray[np.uint8]] = []
    for before, place in zip([-1, *chosen[:-1]], chosen, strict=True):
        large = frames[place].repeat(scale, axis=0).repeat(scale, axis=1)
        colour = (255, 80, 0) if before < context <= place else (0, 0, 0)
        parts += [np.full((large.shape[0], 4, 3), colour, np.uint8), large]
    return np.concatenate(parts, axis=1)
