from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_ros.contract import load_contract
from vla_ros.datasets import DatasetWriter

ROBOT = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
FRONT, STATE = "observation.images.front", "observation.state"


def write_dataset(
    root: Path, episodes: int = 5, length: int = 12, seed: int = 0, constant_gripper: bool = False
) -> Path:
    """Write a dataset whose actions follow from what is observed: a bright spot's position and the state."""
    content = yaml.safe_load(ROBOT.read_text())
    content["inputs"][0]["image"] = {"height": 16, "width": 16}
    contract_text = yaml.safe_dump(content)
    path = root.parent / f"{root.name}_contract.yaml"
    path.write_text(contract_text)
    contract = load_contract(path)
    features = {key: contract.features[key] for key in (FRONT, STATE, "action")}
    rng = np.random.default_rng(seed)
    writer = DatasetWriter(root, features, contract.fps, contract.robot_type, image_storage="png")
    for _ in range(episodes):
        frames = []
        for _ in range(length):
            spot, state = rng.integers(0, 16, 2), rng.uniform(-1, 1, 4).astype(np.float32)
            if constant_gripper:
                state[3] = 0.5
            image = np.full((16, 16, 3), 40, np.uint8)
            image[spot[0], spot[1]] = 255
            action = np.array([spot[0] / 1600, spot[1] / 1600, state[0] / 100, state[1]], np.float32)
            frames.append({FRONT: image, STATE: state, "action": action})
        writer.add_episode(frames, "push the puck to the goal")
    writer.finish({"meta/contract.yaml": contract_text, "meta/contract_hash.txt": contract.hash + "\n"})
    return root


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def write_tiny_dataset():
    return write_dataset


@pytest.fixture
def make_recipe(dataset_root, tmp_path):
    """Return a function that writes a small recipe, with some of its fields replaced, and returns its path."""

    def make(**changes) -> Path:
        content = {
            "output": str(tmp_path / "out"),
            "dataset": {"root": str(dataset_root), "validation_fraction": 0.2},
            "inputs": [FRONT, STATE],
            "policy": {"name": "bc", "overrides": {"hidden_dims": [16], "action_horizon": 3, "dropout": 0.2}},
            "epochs": 4,
            "batch_size": 8,
            "threads": 1,
            "augmentation": {"random_shift": 1, "brightness": 0.1},
            **changes,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return make


class Recorded:
    """A progress that remembers what it was told, and can interrupt the run."""

    def __init__(self, interrupt_in_epoch: int = 0) -> None:
        self.messages, self.reports, self.steps = [], [], []
        self.finished = False
        self._interrupt_in_epoch = interrupt_in_epoch

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start(self, total_steps: int, done_steps: int) -> None:
        self.total_steps, self.done_steps = total_steps, done_steps

    def step(self, step: int, loss: float, lr: float) -> None:
        self.steps.append(step)
        if len(self.reports) + 1 == self._interrupt_in_epoch:
            raise KeyboardInterrupt

    def epoch(self, report) -> None:
        self.reports.append(report)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def recorded():
    return Recorded
