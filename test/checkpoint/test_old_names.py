"""Checkpoints and options of earlier versions load, with a word."""

import logging
import re

import pytest
import torch
from safetensors.torch import save_file

from vla_ros.checkpoint.weights import load_weights
from vla_ros.contract import FeatureSpec
from vla_ros.data_types import CheckpointError
from vla_ros.networks.attention.block import Block
from vla_ros.policies import build_policy, current_policy, policy_config
from vla_ros.policies.act import ActWalkthroughPolicy
from vla_ros.policies.examples import make_example_batch

FRONT, STATE = "observation.images.front", "observation.state"
CONFIG = {
    "inputs": {
        FRONT: FeatureSpec(FRONT, "image", (24, 24, 3), "uint8", ("height", "width", "channels")),
        STATE: FeatureSpec(STATE, "vector", (4,), "float32", ("x", "y", "z", "opening")),
    },
    "action": FeatureSpec("action", "action", (3,), "float32", ("dx", "dy", "dz")),
    "action_horizon": 4,
}
EXPERTS = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 24, "mlp_dim": 16},
    "text": None,
}
RT1 = {"trunk": "small_conv", "grid": None, "token_dim": 16, "tokens_per_image": 2, "learner_dim": 8, "depth": 2}
OF_RT1 = {
    "attention.joined.": "self_attn.in_proj_",
    "attention.output.": "self_attn.out_proj.",
    "mlp.inner.": "linear1.",
    "mlp.outer.": "linear2.",
    "attention_norm.": "norm1.",
    "mlp_norm.": "norm2.",
}
OF_GRP = {"mlp.inner.": "mlp.0.", "mlp.outer.": "mlp.2."}
# policy → its options, where its blocks are, and what their parts were called
CASES = {
    "pi0": (EXPERTS, r"(action|prefix)_expert\.layers", {}),
    "flow_ar": (EXPERTS, r"(action|prefix)_expert\.layers", {}),
    "grp": ({"width": 16, "n_heads": 2, "depth": 2, "text": None}, "blocks", OF_GRP),
    "rt1": ({**RT1, "n_heads": 2, "mlp_dim": 16, "n_obs_steps": 2, "text": None}, r"transformer\.layers", OF_RT1),
}


def former(name: str, blocks: str, parts: dict[str, str]) -> str:
    """Return what a weight was called before there was one block for all architectures."""
    found = re.match(rf"({blocks}\.\d+\.)(.*)", name)
    if not found:
        return name
    place, rest = found[1], found[found.lastindex]
    for now, before in parts.items():
        if rest.startswith(now):
            return place + before + rest.removeprefix(now)
    return place + re.sub(r"^attention\.", "", rest)


@pytest.mark.parametrize("name", CASES)
def test_weights_with_their_former_names_give_the_same_policy(name, tmp_path, caplog):
    options, blocks, parts = CASES[name]
    torch.manual_seed(0)
    built = build_policy(name, {**CONFIG, **options}).eval()
    state = {former(key, blocks, parts): value for key, value in built.state_dict().items()}
    assert set(state) != set(built.state_dict())
    save_file(state, tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        loaded = load_weights(built.config, type(built), "config", tmp_path / "model.safetensors").eval()
    assert "names of an earlier version" in caplog.text
    batch = make_example_batch(built.config)
    one, other = (p.predict_action_chunk(batch, None, torch.Generator().manual_seed(0)) for p in (built, loaded))
    assert torch.equal(one.actions, other.actions)


def test_a_weight_that_is_missing_is_still_missing(tmp_path):
    options, blocks, parts = CASES["pi0"]
    built = build_policy("pi0", {**CONFIG, **options})
    state = {former(key, blocks, parts): value for key, value in built.state_dict().items()}
    del state["action_expert.layers.1.key.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"it lacks action_expert.layers.1.attention.key.weight"):
        load_weights(built.config, type(built), "config", tmp_path / "model.safetensors")


def test_parts_of_a_block_of_the_vision_transformer_have_todays_names():
    names = ["attention_norm.weight", "query.bias", "output.weight", "mlp_norm.bias", "mlp_in.weight", "mlp_out.bias"]
    today = ["attention_norm.weight", "attention.query.bias", "attention.output.weight", "mlp_norm.bias"]
    renamed = Block.upgrade_weights({name: torch.zeros(1) for name in names})
    assert list(renamed) == [*today, "mlp.inner.weight", "mlp.outer.bias"]


FORMER_OPTIONS = {"cvae": False, "width": 16, "n_heads": 2, "mlp_dim": 16, "head_dims": None, "tanh": None}
FORMER_OPTIONS |= {"objective": None, "magnitude_weighting": None, "latent_dim": 32, "kl_weight": 10.0}


def test_act_without_cvae_is_the_walkthroughs_now(caplog):
    with caplog.at_level(logging.WARNING):
        built = build_policy("act", {**CONFIG, **FORMER_OPTIONS, "backbone": "cnn"})
    assert isinstance(built, ActWalkthroughPolicy)
    assert "is called 'act_walkthrough' now" in caplog.text
    assert (built.config.objective, built.config.tanh, built.config.head_dims) == ("smooth_l1", True, (2048, 1024))


def test_nulls_of_the_published_act_are_its_defaults():
    former_options = {**FORMER_OPTIONS, "cvae": True}
    config = policy_config("act", {**CONFIG, **former_options})
    assert (config.objective, config.tanh, config.head_dims, config.magnitude_weighting) == ("l1", False, (), False)


def test_the_published_act_can_be_had_without_its_latent():
    assert current_policy("act", {"cvae": False, "image_tokens": "maps"})[0] == "act"
    assert build_policy("act", {**CONFIG, "cvae": False, "image_tokens": "maps", "backbone": "cnn"}).latent is None
