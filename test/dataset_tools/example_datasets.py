"""Datasets whose values name their episode and frame, so that a test can read what came from where."""

from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.contract import FeatureSpec
from vla_ros.datasets import DatasetWriter

CAMERA, STATE = "observation.images.front", "observation.state"
FEATURES = {
    CAMERA: FeatureSpec(CAMERA, "image", (32, 48, 3), "uint8", ("height", "width", "channels")),
    STATE: FeatureSpec(STATE, "vector", (2,), "float32", ("a", "b")),
    "action": FeatureSpec("action", "action", (2,), "float32", ("a", "b")),
}
FPS = 10
LENGTHS = (12, 20, 15, 9)
TASKS = ("push", "pull", "push", "lift")


def frame(episode: int, k: int, shift: float = 0.0) -> dict[str, np.ndarray[Any, Any]]:
    """Frame k of an episode: an arm that swings, commanded two frames ahead, and an image that shows k."""
    image = np.full((32, 48, 3), 20 * episode + 4 * k, np.uint8)
    image[:, ::2] = 10 * episode
    angle = 0.4 * k + episode + shift
    return {
        CAMERA: image,
        STATE: np.array([np.sin(angle), np.cos(0.7 * angle)], np.float32),
        "action": np.array([np.sin(angle + 0.8), np.cos(0.7 * angle + 0.56)], np.float32),
    }


def make(root: Path, storage: str = "video", codec: str = "h264", lengths: tuple[int, ...] = LENGTHS) -> Path:
    """Write a dataset."""
    with DatasetWriter(root, FEATURES, FPS, "rig", image_storage=storage, codec=codec) as writer:  # type: ignore[arg-type]
        for episode, length in enumerate(lengths):
            writer.add_episode((frame(episode, k) for k in range(length)), TASKS[episode % len(TASKS)])
    return root
