from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vla_ros.contract import load_contract
from vla_ros.datasets import DatasetWriter
from vla_ros.processors import text_models

ROBOT = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
FRONT, STATE, GOAL = "observation.images.front", "observation.state", "goal.image"
LIDAR = "observation.points.lidar"

_MOTION = {"coordinates": "spherical", "magnitude_names": ["dx", "dy", "dz"]}
_BC = {"hidden_dims": [16], "dropout": 0.2}
_ACT = {"width": 16, "n_heads": 2, "mlp_dim": 16, "n_encoder_layers": 1, "n_decoder_layers": 1, "head_dims": [16]}
_ACT |= {"dropout": 0.2}
_CVAE = {**_ACT, "cvae": True, "latent_dim": 4}
_GRP = {"width": 16, "depth": 1, "n_heads": 2, "text": {"length": 32}, "dropout": 0.2}
_FLOW = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 16, "mlp_dim": 16},
    "text": None,
}
_STEPS = {"flow_steps": 2}
_TEXT = {"kind": "characters", "length": 32}
_FLOW_AR = {**_FLOW, "bins": 16, "text": _TEXT}
_RT1 = {"n_obs_steps": 2, "trunk": "small_conv", "grid": None, "token_dim": 16, "tokens_per_image": 2, "depth": 1}
_RT1 |= {"n_heads": 2, "mlp_dim": 16, "bins": 16, "dropout": 0.2}
_RT1 |= {"text": {"kind": "sentence_embedding", "source": "pretended", "width": 4}}

VARIANTS = {
    "bc": ("bc", [FRONT, STATE], {**_BC, "backbone": "resnet_small"}),
    "bc_gru": ("bc", [FRONT, STATE], {**_BC, "gru_hidden_dim": 8, "n_obs_steps": 3}),
    "bc_spherical": ("bc", [FRONT, STATE], {**_BC, **_MOTION}),
    "act": ("act_walkthrough", [FRONT, STATE], {**_ACT, "n_obs_steps": 2}),
    "act_spherical": ("act_walkthrough", [FRONT, STATE], {**_ACT, **_MOTION}),
    "act_cvae": ("act", [FRONT, STATE], _CVAE),
    "grp": ("grp", [FRONT, STATE, GOAL], _GRP),
    "grp_bins": ("grp", [FRONT, STATE], {**_GRP, "objective": "cross_entropy", "bins": 16}),
    "pi0": ("pi0", [FRONT, STATE, GOAL], {**_FLOW, **_STEPS, "text": _TEXT, "n_obs_steps": 2, "goal_dropout": 0.5}),
    "pi0_diffusion": ("pi0", [FRONT, STATE], {**_FLOW, **_STEPS, "objective": "diffusion", "flow_samples": 2}),
    "flow_ar_flow": ("flow_ar", [FRONT, STATE], {**_FLOW_AR, **_STEPS, "decode": "flow"}),
    "flow_ar_autoregressive": ("flow_ar", [FRONT, STATE], {**_FLOW_AR, "decode": "autoregressive", "temperature": 1.0}),
    "rt1": ("rt1", [FRONT, STATE], _RT1),
}
"""Name → architecture, inputs and options: every architecture, and of each what trains in a way of its own."""


def write_dataset(
    root: Path,
    episodes: int = 5,
    length: int = 12,
    seed: int = 0,
    *,
    constant_gripper: bool = False,
    lidar: bool = False,
) -> Path:
    """Write a dataset whose actions follow from what is observed: a bright spot's position and the state.

    With `lidar` a cloud is in it too, half of its rows no points, and none at all in every fourth frame.
    """
    content = yaml.safe_load(ROBOT.read_text())
    content["inputs"][0]["image"] = {"height": 16, "width": 16}
    contract_text = yaml.safe_dump(content)
    path = root.parent / f"{root.name}_contract.yaml"
    path.write_text(contract_text)
    contract = load_contract(path)
    features = {key: contract.features[key] for key in (FRONT, STATE, *([LIDAR] if lidar else []), "action")}
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
            if lidar:
                frames[-1][LIDAR] = np.full(features[LIDAR].shape, np.nan, np.float32)
                if len(frames) % 4:
                    frames[-1][LIDAR][::2] = rng.normal(size=(180, 3))
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


class PretendedSentences(text_models.TextModel):
    """A sentence encoder that counts how often it is asked."""

    asked = 0

    def __init__(self, spec) -> None:
        self.width = spec.width

    def embed(self, instruction):
        type(self).asked += 1
        return {"task_embedding": torch.full((self.width,), float(len(instruction))).sin()}


@pytest.fixture
def pretended_sentences(monkeypatch):
    """Take the place of sentence encoders, which are not at hand."""
    monkeypatch.setitem(text_models.MODELS, "sentence_embedding", PretendedSentences)
    monkeypatch.setattr(PretendedSentences, "asked", 0)
    return PretendedSentences


@pytest.fixture(params=VARIANTS)
def variant(request, pretended_sentences, monkeypatch):
    """What `make_recipe` needs to train each of `VARIANTS`; no loss is drawn, which would take most of the time."""
    monkeypatch.setattr("vla_ros.training.run.loss_curve", lambda *_: b"")
    name, inputs, options = VARIANTS[request.param]
    return {"inputs": inputs, "policy": {"name": name, "overrides": {"action_horizon": 3, **options}}}


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
