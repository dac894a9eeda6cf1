"""A small checkpoint, and its metadata brought up to date after it was edited: what is then refused is its content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.checkpoint import save_checkpoint
from vla_ros.checkpoint.checksums import folder_checksums, metadata_text, read_metadata
from vla_ros.contract import FeatureSpec, load_contract
from vla_ros.policies import build_policy
from vla_ros.processors import ProcessorOptions, Processors

ROBOT = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
STATE = "observation.state"


@pytest.fixture
def robot():
    return load_contract(ROBOT)


@pytest.fixture
def save(robot, tmp_path) -> Callable[..., Path]:
    """Save an untrained policy that sees the robot's state, and what else is named; options are the policy's."""

    def made(policy: str = "bc", *, inputs: tuple[str, ...] = (STATE,), name: str = "made", **options: Any) -> Path:
        features = {key: robot.features[key] for key in inputs}
        action = robot.features["action"]
        statistics = {spec.key: _statistics(spec) for spec in (*features.values(), action)}
        processors = Processors(features, action, ProcessorOptions(), statistics)
        built = build_policy(policy, {"inputs": processors.policy_inputs, "action": action, **options})
        processors.use_text(built.config.text)
        return save_checkpoint(tmp_path / name, built, processors, robot, {"step": 7}, extra_files={"note.txt": b"x"})

    return made


@pytest.fixture
def folder(save) -> Path:
    return save(hidden_dims=[8], action_horizon=4)


@pytest.fixture
def reseal() -> Callable[[Path], None]:
    """Make a checkpoint's checksums right, whatever is in its files."""

    def resealed(folder: Path) -> None:
        file = folder / "metadata.json"
        file.write_text(metadata_text(read_metadata(file), folder_checksums(folder)))

    return resealed


def _statistics(spec: FeatureSpec) -> dict[str, np.ndarray]:
    shape = (3, 1, 1) if spec.kind == "image" else spec.shape
    values = {"min": -1.0, "q01": -0.9, "mean": 0.1, "std": 0.5, "q99": 0.9, "max": 1.0}
    return {name: np.full(shape, value) for name, value in values.items()}
