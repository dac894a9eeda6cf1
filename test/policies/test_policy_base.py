"""What surrounds every architecture: checks, no gradients, committed actions, named tensors."""

import pytest
import torch

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.policies import LossOutput, Policy, PolicyConfig, PolicyOutput, build_policy, policy_names
from vla_ros.policies.examples import make_example_batch

FRONT, STATE = "observation.images.front", "observation.state"
IMAGE = FeatureSpec(FRONT, "image", (24, 24, 3), "uint8", ("height", "width", "channels"))
VECTOR = FeatureSpec(STATE, "vector", (4,), "float32", ("x", "y", "z", "opening"))
ACTION = FeatureSpec("action", "action", (3,), "float32", ("dx", "dy", "dz"))
ACT = {"width": 16, "n_heads": 2, "mlp_dim": 16, "n_encoder_layers": 1, "n_decoder_layers": 1, "backbone": "cnn"}
EXPERTS = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 24, "mlp_dim": 16},
    "text": {"kind": "characters", "length": 4},
}
RT1 = {"trunk": "small_conv", "grid": None, "token_dim": 16, "tokens_per_image": 2, "learner_dim": 8, "depth": 1}
SMALL = {
    "act": ACT,
    "act_walkthrough": {**ACT, "head_dims": [16]},
    "bc": {"hidden_dims": [16]},
    "flow_ar": EXPERTS,
    "grp": {"width": 16, "n_heads": 2, "depth": 1, "text": {"kind": "characters", "length": 4}},
    "pi0": EXPERTS,
    "rt1": {**RT1, "n_heads": 2, "mlp_dim": 16, "n_obs_steps": 2, "text": None},
    "multi_sensor": {"width": 16, "n_heads": 2},
}


def build(name: str, **options):
    torch.manual_seed(0)
    config = {"inputs": {FRONT: IMAGE, STATE: VECTOR}, "action": ACTION, "action_horizon": 6}
    return build_policy(name, {**config, **SMALL[name], **options}).eval()


def seed(value: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(value)


def test_every_architecture_is_tried_here():
    assert set(SMALL) == set(policy_names()) - {"world_model"}  # a planner, which has tests of its own


@pytest.mark.parametrize("name", SMALL)
def test_a_prediction_with_named_tensors_is_the_same_prediction(name):
    built = build(name)
    batch = make_example_batch(built.config)
    plain = built.predict(batch, None, seed())
    shown = built.predict(batch, None, seed(), return_intermediates=True)
    assert torch.equal(plain.actions, built.predict_action_chunk(batch, None, seed()).actions)
    torch.testing.assert_close(shown.actions, plain.actions)
    assert not plain.intermediates
    assert not plain.actions.requires_grad
    assert all(torch.is_tensor(value) for value in shown.intermediates.values())


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"bc", "multi_sensor"}))
def test_named_tensors_tell_of_every_token_who_sees_whom_and_by_how_much(name):
    built = build(name)
    shown = built.predict(make_example_batch(built.config), None, seed(), return_intermediates=True)
    tokens = shown.intermediates["tokens"]
    of_state = shown.intermediates.get("state_tokens")
    length = tokens.shape[1] + (0 if of_state is None else of_state.shape[1])
    assert sum(count for _, count in shown.segments) == length
    weights = {key: value for key, value in shown.intermediates.items() if key.endswith("attention")}
    assert weights
    for value in weights.values():
        torch.testing.assert_close(value.sum(dim=-1), torch.ones_like(value[..., 0]), rtol=1e-4, atol=1e-5)


def test_recorded_attention_is_what_the_layer_used():
    built = build("grp", dropout=0.0)
    batch = make_example_batch(built.config)
    shown = built.predict(batch, return_intermediates=True).intermediates
    block, weights = built.blocks[0], shown["blocks.0.attention"]
    tokens = shown["tokens"].masked_fill(~shown["mask"][..., None], 0.0)
    normed = block.attention_norm(tokens)
    value = block.attention.value(normed).unflatten(-1, (2, -1)).transpose(1, 2)
    gathered = block.attention.output((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(gathered, block.attention(normed, normed, normed, shown["mask"]), rtol=1e-4, atol=1e-5)
    assert (weights.sum(dim=(1, 2))[~shown["mask"]] == 0).all()
    assert block.attention.recorded is None


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("committed", [0, 2, 6])
def test_committed_actions_are_returned_as_they_are(name, committed):
    built = build(name)
    batch = make_example_batch(built.config)
    prefix = batch["action"][:, :committed]
    actions = built.predict(batch, None, seed(), prefix=prefix).actions
    assert torch.equal(actions[:, :committed], prefix)
    assert actions.shape == (2, 6, 3)
    if not built.follows_prefix:
        free = built.predict(batch, None, seed()).actions
        assert torch.equal(actions[:, committed:], free[:, committed:])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pi0", {}),
        ("pi0", {"objective": "diffusion"}),
        ("flow_ar", {"decode": "autoregressive"}),
        ("act", {"objective": "flow_matching"}),
        ("bc", {"objective": "diffusion"}),
    ],
)
def test_later_steps_follow_committed_ones_where_the_policy_says_so(name, options):
    built = build(name, **options)
    for parameter in built.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert built.follows_prefix
    batch = make_example_batch(built.config)
    one, other = (
        built.predict(batch, None, seed(), prefix=torch.full((2, 3, 3), value)).actions for value in (-1.0, 1.0)
    )
    assert not torch.allclose(one[:, 3:], other[:, 3:])


@pytest.mark.parametrize(
    "prefix", [torch.zeros(2, 7, 3), torch.zeros(1, 2, 3), torch.zeros(2, 2, 4), torch.zeros(2, 3)]
)
def test_a_prefix_of_another_shape_is_refused(prefix):
    built = build("bc")
    with pytest.raises(ObservationError, match=r"prefix must be \[B=2, P ≤ 6, A=3\]"):
        built.predict(make_example_batch(built.config), prefix=prefix)


def test_a_prefix_that_is_not_finite_is_refused():
    built = build("bc")
    with pytest.raises(ObservationError, match="prefix holds numbers that are not finite"):
        built.predict(make_example_batch(built.config), prefix=torch.full((2, 1, 3), float("nan")))


@pytest.mark.parametrize("name", SMALL)
def test_a_training_batch_of_another_form_is_refused(name):
    built = build(name)
    batch = make_example_batch(built.config)
    with pytest.raises(ObservationError, match=r"'action' must be \[B, 6, 3\], got \[2, 4, 3\]"):
        built.compute_loss({**batch, "action": batch["action"][:, :4]})
    del batch["action_is_pad"]
    with pytest.raises(ObservationError, match="'action_is_pad' is missing"):
        built.compute_loss(batch)


def test_an_input_of_a_kind_that_the_architecture_does_not_see_is_refused():
    points = FeatureSpec("observation.points.lidar", "points", (16, 3), "float32", ("x", "y", "z"))
    with pytest.raises(ConfigError, match=r"'observation.points.lidar' holds points; .* sees images and vectors only"):
        build("bc", inputs={FRONT: IMAGE, points.key: points})


class Whole(Policy):
    """One that does everything by itself, as before there was a base that does."""

    name = "whole"
    config_class = PolicyConfig

    def compute_loss(self, batch, generator=None):
        return LossOutput(batch["action"].sum())

    def predict_action_chunk(self, observation, state=None, generator=None):
        return PolicyOutput(torch.zeros(2, 6, 3))


def test_a_policy_that_replaces_both_methods_still_takes_committed_actions():
    config = PolicyConfig(inputs={STATE: VECTOR}, action=ACTION, action_horizon=6)
    actions = Whole(config).predict({STATE: torch.zeros(2, 1, 4)}, prefix=torch.ones(2, 2, 3)).actions
    assert actions[:, :, 0].tolist() == [[1, 1, 0, 0, 0, 0]] * 2
