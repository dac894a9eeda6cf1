"""Every shipped options file of bc and act builds, at the robot that it was made for."""

from pathlib import Path

import pytest
import torch
import yaml

from vla_ros.contract import FeatureSpec
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch

FOLDER = Path(__file__).parents[2] / "config" / "policies"
FILES = sorted([*FOLDER.glob("bc_*.yaml"), *FOLDER.glob("act*.yaml")])
CPU_SIZES = [
    "bc_resnet_small",
    "bc_vit_small",
    "bc_gru_small",
    "bc_spherical_small",
    "act_small",
    "act_walkthrough_small",
]
CPU_SIZES += ["act_cvae_small"]

INPUTS = {
    key: FeatureSpec(key, "image", (84, 84, 3), "uint8", ("height", "width", "channels"))
    for key in ("observation.images.front", "observation.images.wrist")
}
INPUTS["observation.state"] = FeatureSpec("observation.state", "vector", (4,), "float32", ("x", "y", "z", "gripper"))
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))


def build(path):
    options = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = ("act_walkthrough", "act", "bc")
    name = next(name for name in names if path.stem.startswith(name))
    return build_policy(name, {**options, "inputs": INPUTS, "action": ACTION}, str(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_options_file_builds(path):
    with torch.device("meta"):
        built = build(path)
    assert built.parameter_counts()["total"] > 100_000


@pytest.mark.parametrize("stem", CPU_SIZES)
def test_cpu_size_is_small_and_predicts(stem):
    built = build(FOLDER / f"{stem}.yaml")
    assert built.parameter_counts()["total"] < 4_000_000
    batch = make_example_batch(built.config)
    assert built.compute_loss(batch, torch.Generator()).loss.isfinite()
    assert built.eval().predict_action_chunk(batch).actions.shape == (2, 8, 4)
