"""Further sensors and a memory, in every architecture that reads a sequence of tokens."""

import pytest
import torch
from torch import nn

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch
from vla_ros.registry import MEMORIES

FRONT, STATE, LIDAR = "observation.images.front", "observation.state", "observation.points.lidar"
WRENCH = "observation.wrench"
INPUTS = {
    FRONT: FeatureSpec(FRONT, "image", (24, 24, 3), "uint8", ("height", "width", "channels")),
    STATE: FeatureSpec(STATE, "vector", (4,), "float32", ("x", "y", "z", "opening")),
    LIDAR: FeatureSpec(LIDAR, "points", (20, 3), "float32", ("x", "y", "z")),
    WRENCH: FeatureSpec(WRENCH, "vector", (6,), "float32", ("fx", "fy", "fz", "tx", "ty", "tz")),
}
ACTION = FeatureSpec("action", "action", (3,), "float32", ("dx", "dy", "dz"))
SENSORS = {
    LIDAR: {"encoder": "pillars", "options": {"x_range": [-2.0, 2.0], "y_range": [-2.0, 2.0], "cell": 1.0}},
    WRENCH: {"encoder": "linear"},
}
ACT = {"width": 16, "n_heads": 2, "mlp_dim": 16, "n_encoder_layers": 1, "n_decoder_layers": 1, "backbone": "cnn"}
EXPERTS = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 24, "mlp_dim": 16},
    "text": None,
}
RT1 = {"trunk": "small_conv", "grid": None, "token_dim": 16, "tokens_per_image": 2, "learner_dim": 8, "depth": 1}
ARCHITECTURES = {
    "act": {**ACT, "n_obs_steps": 2},
    "act_walkthrough": {**ACT, "n_obs_steps": 2, "head_dims": [16]},
    "flow_ar": EXPERTS,
    "grp": {"width": 16, "n_heads": 2, "depth": 1, "text": None},
    "pi0": {**EXPERTS, "n_obs_steps": 2},
    "rt1": {**RT1, "n_heads": 2, "mlp_dim": 16, "n_obs_steps": 2, "text": None},
}


class Counter(nn.Module):
    """Remembers the mean of the tokens that it saw, and adds it to those it sees."""

    def __init__(self, width: int, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, tokens, valid, state):
        seen = (tokens * valid[..., None]).sum(dim=1, keepdim=True) / valid.sum(dim=1)[:, None, None].clamp(min=1)
        before = torch.zeros_like(seen) if state is None else state["mean"]
        return tokens + self.gain * before, {"mean": before + seen}


@pytest.fixture
def memory():
    MEMORIES["test_counter"] = Counter
    yield {"name": "test_counter"}
    del MEMORIES["test_counter"]


def build(name: str, **options):
    torch.manual_seed(0)
    config = {"inputs": INPUTS, "action": ACTION, "action_horizon": 4, "sensors": SENSORS}
    built = build_policy(name, {**config, **ARCHITECTURES[name], **options}).eval()
    for parameter in built.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return built


def predicted(built, batch, state=None):
    return built.predict_action_chunk(batch, state, torch.Generator().manual_seed(0)).actions


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_sensor_matters_and_is_trained(name):
    built = build(name)
    batch = make_example_batch(built.config)
    reference = predicted(built, batch)
    for key in (LIDAR, WRENCH):
        assert not torch.allclose(predicted(built, {**batch, key: batch[key] + 0.7}), reference, atol=1e-6), key
    built.compute_loss(batch, torch.Generator().manual_seed(0)).loss.backward()
    for encoder in built.assemble.encoders:
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_points_that_are_not_there_and_frames_before_the_episode_reach_nothing(name):
    built = build(name)
    batch = make_example_batch(built.config)
    batch[LIDAR][0] = float("nan")
    if built.config.n_obs_steps > 1:
        batch["is_pad"][0, 0] = True
    reference = predicted(built, batch)
    assert reference.isfinite().all()
    batch[WRENCH] = batch[WRENCH].clone()
    if built.config.n_obs_steps > 1:
        batch[WRENCH][0, 0] = 9.0
        torch.testing.assert_close(predicted(built, batch), reference)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_sequence_names_its_parts(name):
    built = build(name)
    shown = built.predict(make_example_batch(built.config), return_intermediates=True)
    names = [part for part, _ in shown.segments]
    if name == "rt1":  # a part per frame, each with all its tokens
        assert names == ["frame -1", "frame 0"]
        assert {count for _, count in shown.segments} == {built.tokens_per_frame}
    else:
        assert {LIDAR, WRENCH} <= set(names)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_memory_reads_and_writes_the_policys_state(name, memory):
    built = build(name, memory=memory)
    batch = make_example_batch(built.config)
    first = built.predict_action_chunk(batch, None, torch.Generator().manual_seed(0))
    assert "memory/mean" in first.state
    assert not torch.allclose(predicted(built, batch, first.state), first.actions, atol=1e-6)
    torch.testing.assert_close(predicted(built, batch, None), first.actions)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_sensors_and_memory_nothing_is_added(name):
    inputs = {key: INPUTS[key] for key in (FRONT, STATE)}
    built = build(name, inputs=inputs, sensors={})
    assert not list(built.assemble.parameters())
    output = built.predict_action_chunk(make_example_batch(built.config))
    assert output.state is None or not any(key.startswith("memory/") for key in output.state)


def test_a_vector_that_is_a_sensor_is_no_proprioception():
    assert build("act").config.vector_keys == (STATE,)
    assert build("act").config.state_dim == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sensors": {"observation.points.lidr": {"encoder": "pillars"}}}, "sensors: 'observation.points.lidr' is not"),
        ({"sensors": {**SENSORS, LIDAR: {"encoder": "pilars"}}}, "Did you mean 'pillars'"),
        ({"sensors": {**SENSORS, LIDAR: {"encoder": "pillars", "options": {"sell": 1}}}}, "takes no such options"),
        ({"memory": {"name": "elephant"}}, "memory 'elephant' is not one of"),
    ],
)
def test_bad_options_are_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build("act", **options)
