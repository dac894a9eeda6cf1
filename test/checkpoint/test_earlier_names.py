"""A checkpoint whose weights have the names of an earlier version loads, strictly, and predicts what it did."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_ros.checkpoint import weights
from vla_ros.data_types import CheckpointError
from vla_ros.policies import build_policy, policy_class
from vla_ros.policies.bc import BcConfig

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_script():
    spec = importlib.util.spec_from_file_location("make_bc", GOLDEN / "make_bc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return golden_script()


def config(script) -> BcConfig:
    return build_policy("bc", {"inputs": script.INPUTS, "action": script.ACTION, **script.VARIANTS["vit"]}).config


def earlier_file(script, file: Path, change=None) -> Path:
    policy = policy_class("bc")(config(script))
    tensors = script.vit_weights_of_the_first_version(policy, np.random.RandomState(0))
    if change is not None:
        change(tensors)
    save_file(tensors, file)
    return file


def load(script, file: Path):
    return weights.load_weights(config(script), policy_class("bc"), "config.yaml", file)


def test_weights_of_a_vit_of_the_first_version_load_and_predict_the_golden_numbers(script, tmp_path):
    policy = load(script, earlier_file(script, tmp_path / "model.safetensors")).eval()
    assert not any("positions_PD" in name for name in policy.state_dict())
    source = np.random.RandomState(0)
    script.vit_weights_of_the_first_version(policy, source)  # the inputs come after the weights
    batch = {
        key: torch.from_numpy(source.standard_normal((2, 1, *shape))).float()
        for key, shape in zip(script.INPUTS, ((3, 84, 84), (3, 84, 84), (4,)), strict=True)
    }
    actions = policy.predict_action_chunk(batch).actions
    golden = load_file(GOLDEN / "bc.safetensors")["vit/actions"]
    torch.testing.assert_close(actions, golden, rtol=1e-4, atol=1e-5)


def test_the_same_weights_saved_today_are_equal(script, tmp_path):
    earlier = load(script, earlier_file(script, tmp_path / "earlier.safetensors"))
    save_file(earlier.state_dict(), tmp_path / "today.safetensors")
    today = load(script, tmp_path / "today.safetensors")
    assert all(torch.equal(value, today.state_dict()[name]) for name, value in earlier.state_dict().items())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda t: t.pop("encoders.shared.backbone.layers.3.mlp.inner.bias"),
            "it lacks encoders.shared.backbone.encoder.layers.encoder_layer_3.mlp.0.bias",
        ),
        (
            lambda t: t.pop("encoders.shared.backbone.layers.3.attention.key.weight"),
            "in_proj_weight is F32 [256, 128], the policy's F32 [384, 128]",
        ),
        (
            lambda t: t.update({"encoders.shared.backbone.layers.9.mlp_norm.bias": torch.zeros(128)}),
            "the policy has not, encoders.shared.backbone.encoder.layers.encoder_layer_9.ln_2.bias",
        ),
        (
            lambda t: t.update({"encoders.shared.backbone.positions_PD": torch.zeros(50, 7)}),
            "pos_embedding is F32 [1, 50, 7], the policy's F32 [1, 50, 128]",
        ),
        (lambda t: t.update({"encoders.shared.backbone.layers.x": torch.zeros(1)}), "not the weights"),
    ],
    ids=["absent", "part of a joined one", "surplus", "another shape", "no layer's"],
)
def test_earlier_weights_that_do_not_fit_are_refused_by_todays_name(script, tmp_path, change, sentence):
    file = earlier_file(script, tmp_path / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        load(script, file)
