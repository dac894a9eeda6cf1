"""Policies that read the instruction, through trainer, checkpoint and runner."""

import numpy as np
import pytest
import torch
import yaml

from vla_ros.checkpoint import load_checkpoint, seal_checkpoint
from vla_ros.data_types import CheckpointError, Frame, tick_ns
from vla_ros.datasets import EpisodeDataset, WindowSampler
from vla_ros.processors import CHARACTERS
from vla_ros.runtime import PolicyRunner, TorchPredictor
from vla_ros.training import load_recipe, train

FRONT, STATE = "observation.images.front", "observation.state"
GRP = {"width": 16, "depth": 1, "n_heads": 2, "action_horizon": 3, "dropout": 0.2, "text": {"length": 32}}
RT1 = {"token_dim": 16, "depth": 1, "n_heads": 2, "mlp_dim": 16, "trunk": "small_conv", "grid": None, "n_obs_steps": 3}
RT1 |= {"text": {"kind": "sentence_embedding", "source": "pretended", "width": 4}, "bins": 16, "tokens_per_image": 2}
FLOW = {"vision": {"kind": "keypoints", "share": False, "n_tokens": 2}, "text": {"kind": "characters", "length": 32}}
FLOW |= {"attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8}, "action_horizon": 3, "flow_steps": 2}
FLOW |= {"prefix_expert": {"width": 16, "mlp_dim": 16}, "action_expert": {"width": 8, "mlp_dim": 16}}
POLICIES = {"flow_ar": FLOW, "grp": GRP, "pi0": FLOW, "rt1": RT1}

pytestmark = pytest.mark.usefixtures("pretended_sentences")


@pytest.fixture(params=sorted(POLICIES))
def recipe(request, make_recipe):
    return make_recipe(keep_best=False, policy={"name": request.param, "overrides": POLICIES[request.param]})


def test_checkpoint_runs_episodes_and_knows_the_instruction_without_its_model(
    recipe, recorded, dataset_root, pretended_sentences
):
    folder = train(load_recipe(recipe, ["epochs=1"]), recorded())
    checkpoint = load_checkpoint(folder)
    asked = pretended_sentences.asked
    dataset = EpisodeDataset(dataset_root)
    checkpoint.check_robot(dataset.contract())
    steps = checkpoint.policy.config.n_obs_steps
    sampler = WindowSampler(dataset, [0], [FRONT, STATE], steps, checkpoint.policy.config.action_horizon)
    raw = sampler.batch(np.arange(6))
    runner, noise = (
        PolicyRunner(TorchPredictor(checkpoint, seed=0), checkpoint.contract.fps),
        torch.Generator().manual_seed(0),
    )
    for tick in range(6):
        values = {key: raw[key][tick, -1] for key in (FRONT, STATE)}
        runner.observe(Frame(tick_ns(tick, checkpoint.contract.fps), values, raw["task"][0]))
        actions = runner.predict().actions_HA
        batch = checkpoint.processors.observation(sampler.batch(np.array([tick])))
        with torch.no_grad():
            expected = checkpoint.policy.predict_action_chunk(batch, generator=noise).actions
        wanted = checkpoint.processors.actions(expected[0]).numpy()
        np.testing.assert_allclose(actions, wanted, rtol=1e-4, atol=1e-6)
    assert pretended_sentences.asked == asked <= 1
    assert checkpoint.processors.text.computed == 0


def test_processors_of_another_text_are_refused(make_recipe, recorded):
    recipe = make_recipe(epochs=1, policy={"name": "grp", "overrides": GRP})
    folder = train(load_recipe(recipe), recorded())
    path = folder / "processors.yaml"
    content = yaml.safe_load(path.read_text())
    content["text"]["spec"]["characters"] = CHARACTERS[::-1]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match=r"its text is not that of processors.yaml"):
        seal_checkpoint(folder)
