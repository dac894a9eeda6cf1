"""Policies that read the instruction, through trainer, checkpoint and runner."""

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from vla_ros.checkpoint import load_checkpoint
from vla_ros.data_types import CheckpointError, Frame, tick_ns
from vla_ros.datasets import EpisodeDataset, WindowSampler
from vla_ros.inference import PolicyRunner
from vla_ros.processors import text_models
from vla_ros.training import load_recipe, train

FRONT, STATE = "observation.images.front", "observation.state"
GRP = {"width": 16, "depth": 1, "n_heads": 2, "action_horizon": 3, "dropout": 0.2}
RT1 = {"token_dim": 16, "depth": 1, "n_heads": 2, "mlp_dim": 16, "trunk": "small_conv", "grid": None, "n_obs_steps": 3}
RT1 |= {"text": {"kind": "sentence_embedding", "source": "pretended", "width": 4}, "bins": 16, "tokens_per_image": 2}
POLICIES = {"grp": GRP, "rt1": RT1}


class Pretended(text_models.TextModel):
    """A sentence encoder that counts how often it is asked."""

    asked = 0

    def __init__(self, spec) -> None:
        self.width = spec.width

    def embed(self, instruction):
        type(self).asked += 1
        return {"task_embedding": torch.full((self.width,), float(len(instruction))).sin()}


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    monkeypatch.setitem(text_models.MODELS, "sentence_embedding", Pretended)
    Pretended.asked = 0


@pytest.fixture(params=sorted(POLICIES))
def recipe(request, make_recipe):
    return make_recipe(keep_best=False, policy={"name": request.param, "overrides": POLICIES[request.param]})


@pytest.mark.slow
def test_interrupted_and_resumed_run_equals_one_that_was_not(recipe, recorded, tmp_path):
    whole, parts = (load_recipe(recipe, [f"output={tmp_path / name}"]) for name in ("whole", "parts"))
    train(whole, recorded())
    with pytest.raises(KeyboardInterrupt):
        train(parts, recorded(interrupt_in_epoch=3))
    train(parts, recorded(), resume=True)
    left, right = (load_file(tmp_path / name / "checkpoint/model.safetensors") for name in ("whole", "parts"))
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_checkpoint_runs_episodes_and_knows_the_instruction_without_its_model(recipe, recorded, dataset_root):
    folder = train(load_recipe(recipe, ["epochs=1"]), recorded())
    checkpoint = load_checkpoint(folder)
    asked = Pretended.asked
    dataset = EpisodeDataset(dataset_root)
    checkpoint.check_robot(dataset.contract())
    steps = checkpoint.policy.config.n_obs_steps
    raw = WindowSampler(dataset, [0], [FRONT, STATE], steps, checkpoint.policy.config.action_horizon).batch(
        np.arange(6)
    )
    expected = checkpoint.policy.predict_action_chunk(checkpoint.processors.observation(raw)).actions
    runner = PolicyRunner(checkpoint, seed=0)
    for tick in range(6):
        values = {key: raw[key][tick, -1] for key in (FRONT, STATE)}
        runner.observe(Frame(tick_ns(tick, checkpoint.contract.fps), values, raw["task"][0]))
        actions = runner.predict().actions_HA
        wanted = checkpoint.processors.actions(expected[tick]).numpy()
        np.testing.assert_allclose(actions, wanted, rtol=1e-4, atol=1e-6)
    assert Pretended.asked == asked <= 1
    assert checkpoint.processors.text.computed == 0


def test_processors_of_another_text_are_refused(make_recipe, recorded):
    recipe = make_recipe(epochs=1, policy={"name": "grp", "overrides": GRP})
    folder = train(load_recipe(recipe), recorded())
    path = folder / "processors.yaml"
    content = yaml.safe_load(path.read_text())
    content["text"]["spec"]["length"] = 9
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match=r"its text is not that of processors.yaml"):
        load_checkpoint(folder)
