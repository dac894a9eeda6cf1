"""Every objective with every architecture whose output fits it."""

import math

import pytest
import torch
from torch.nn import functional

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.objectives import UniformBins
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch

FRONT, STATE = "observation.images.front", "observation.state"
IMAGE = FeatureSpec(FRONT, "image", (16, 16, 3), "uint8", ())
VECTOR = FeatureSpec(STATE, "vector", (3,), "float32", ("x", "y", "z"))
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))
SMALL = {"width": 16, "n_heads": 2, "dropout": 0.0}
RT1 = {"trunk": "small_conv", "grid": None, "token_dim": 16, "tokens_per_image": 2, "learner_dim": 8, "depth": 1}
RT1 |= {"n_heads": 2, "mlp_dim": 16, "n_obs_steps": 1, "dropout": 0.0}
EXPERTS = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 16, "mlp_dim": 16},
    "text": None,
}
ARCHITECTURES = {
    "bc": ("bc", {"hidden_dims": [16], "dropout": 0.0}),
    "bc_gru": ("bc", {"hidden_dims": [16], "dropout": 0.0, "gru_hidden_dim": 8}),
    "act": (
        "act_walkthrough",
        {**SMALL, "mlp_dim": 32, "n_encoder_layers": 1, "n_decoder_layers": 1, "head_dims": [16]},
    ),
    "act_cvae": ("act", {**SMALL, "mlp_dim": 32, "n_encoder_layers": 1, "n_decoder_layers": 1, "backbone": "cnn"}),
    "grp": ("grp", {**SMALL, "depth": 1, "text": None, "n_obs_steps": 1}),
    "rt1": ("rt1", {**RT1, "text": None}),
    "pi0": ("pi0", EXPERTS),
    "flow_ar": ("flow_ar", {**EXPERTS, "autoregressive_weight": 0.0}),
}
OBJECTIVES = {
    "mse": {"objective": "mse"},
    "l1": {"objective": "l1"},
    "smooth_l1": {"objective": "smooth_l1", "tanh": True},
    "weighted": {"objective": "mse", "magnitude_weighting": True, "magnitude_names": ["dx", "dy", "dz"]},
    "spherical": {"objective": "mse", "coordinates": "spherical", "magnitude_names": ["dx", "dy", "dz"], "tanh": True},
    "cross_entropy": {"objective": "cross_entropy", "bins": 11},
    "weighted_bins": {"objective": "cross_entropy", "bins": 11, "magnitude_weighting": True},
    "flow_matching": {"objective": "flow_matching", "flow_samples": 4},
    "diffusion": {"objective": "diffusion", "flow_samples": 4},
    "weighted_flow": {"objective": "flow_matching", "flow_samples": 4, "magnitude_weighting": True},
}


def build(architecture: str, **options):
    name, defaults = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    config = {"inputs": {FRONT: IMAGE, STATE: VECTOR}, "action": ACTION, "action_horizon": 3}
    return build_policy(name, {**config, **defaults, **options})


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_objective_trains_any_architecture_whose_output_fits(architecture, objective):
    built = build(architecture, **OBJECTIVES[objective])
    batch = make_example_batch(built.config, batch_size=4)
    optimiser = torch.optim.Adam(built.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = built.compute_loss(batch, seeded()).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    actions = built.eval().predict_action_chunk(batch).actions
    assert actions.shape == (4, 3, 4)
    if built.config.bounded_actions:
        assert actions.abs().max() <= 1.0


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_loss(architecture, objective):
    built = build(architecture, **OBJECTIVES[objective]).eval()
    batch = make_example_batch(built.config, batch_size=4)
    batch["action_is_pad"] = torch.zeros(4, 3, dtype=torch.bool)
    batch["action_is_pad"][:, 2] = True
    reference = built.compute_loss(batch, seeded()).loss
    batch["action"] = batch["action"].clone()
    batch["action"][:, 2] = float("nan")
    assert built.compute_loss(batch, seeded()).loss == reference


@pytest.mark.parametrize("architecture", ["bc", "act", "grp"])
def test_cross_entropy_is_that_of_the_bins_which_the_actions_fall_in(architecture):
    built = build(architecture, objective="cross_entropy", bins=11, magnitude_weighting=False).eval()
    batch = make_example_batch(built.config, batch_size=2)
    raw = built._raw(batch)
    logits = raw[0] if architecture == "bc" else raw
    assert logits.shape == (2, 3, 4, 11)
    bins = ((batch["action"].clamp(-1, 1) + 1) / 2 * 10).round().long()
    expected = functional.cross_entropy(logits.reshape(-1, 11), bins.flatten())
    torch.testing.assert_close(built.compute_loss(batch).loss, expected)
    values = UniformBins(-1.0, 1.0, 11).decode(torch.arange(11))
    assert torch.isin(built.predict_action_chunk(batch).actions, values).all()


def test_untrained_bins_cost_the_logarithm_of_their_number():
    built = build("grp", objective="cross_entropy", bins=64).eval()
    torch.nn.init.zeros_(built.head.weight)
    loss = built.compute_loss(make_example_batch(built.config)).loss
    assert loss.item() == pytest.approx(math.log(64), rel=1e-5)


def test_a_step_of_twice_the_weight_counts_twice_in_bins_too():
    plain = build("bc", objective="cross_entropy", bins=11, magnitude_weighting=False).eval()
    weighted = build("bc", objective="cross_entropy", bins=11, magnitude_weighting=True).eval()
    batch = make_example_batch(plain.config, batch_size=2)
    batch["action"] = torch.zeros_like(batch["action"])
    batch["action"][..., 0] = 0.5  # a length of 0.5 weighs 1 + 2 × 0.5
    torch.testing.assert_close(weighted.compute_loss(batch).loss, 2.0 * plain.compute_loss(batch).loss)


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        (
            "bc",
            {"objective": "flow_matchin"},
            "objective 'flow_matchin' is not one of smooth_l1, mse, l1, cross_entropy, flow_matching, diffusion",
        ),
        (
            "bc",
            {"objective": "flow_matching", "coordinates": "spherical", "magnitude_names": ["dx", "dy", "dz"]},
            "coordinates 'spherical' are regressed; the objective 'flow_matching' takes noise from cartesian numbers",
        ),
        (
            "grp",
            {"objective": "cross_entropy", "coordinates": "spherical", "magnitude_names": ["dx", "dy", "dz"]},
            "bins",
        ),
        ("grp", {"coordinates": "spherical", "magnitude_names": ["dx", "dy", "dz"]}, "set tanh to true"),
        ("act", {"objective": "cross_entropy", "bins": 1}, "bins=1 must be at least 2"),
        ("bc", {"magnitude_names": ["dx", "dx", "dy"]}, "a number stands there twice"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(architecture, options, message):
    with pytest.raises(ConfigError, match=message):
        build(architecture, **options)


def test_ranges_of_classes_mean_nothing_to_rt1_in_a_regression():
    config = {"inputs": {FRONT: IMAGE}, "action": ACTION, "text": None, "trunk": "small_conv", "objective": "mse"}
    with pytest.raises(ConfigError, match="means something only with objective 'cross_entropy'"):
        build_policy("rt1", {**config, "ranges": {"dx": (-2.0, 2.0)}})


def test_what_stands_before_an_episodes_begin_never_reaches_a_policy_without_memory():
    built = build("bc", n_obs_steps=3).eval()
    batch = make_example_batch(built.config, batch_size=2)
    batch["is_pad"] = torch.tensor([[True, True, False], [False, False, False]])
    action, loss = built.predict_action_chunk(batch).actions, built.compute_loss(batch).loss
    for key in (FRONT, STATE):
        batch[key] = batch[key].clone()
        batch[key][0, :2] = float("nan")
    assert torch.equal(built.predict_action_chunk(batch).actions, action)
    assert built.compute_loss(batch).loss == loss


@pytest.mark.parametrize("name", ["bc", "act", "rt1"])
def test_a_goal_is_no_camera(name):
    goal = FeatureSpec("goal.image", "image", (16, 16, 3), "uint8", ())
    with pytest.raises(ConfigError, match=r"'goal.image' is the picture of a goal, which this policy cannot follow"):
        build_policy(name, {"inputs": {FRONT: IMAGE, "goal.image": goal}, "action": ACTION})


def test_errors_of_a_networks_parts_name_the_options_they_are_about():
    with pytest.raises(ConfigError, match=r"mine.yaml: n_heads=3 must divide width=16"):
        build_policy(
            "act", {"inputs": {FRONT: IMAGE}, "action": ACTION, "width": 16, "n_heads": 3, "mlp_dim": 8}, "mine.yaml"
        )


class TestGoalCamera:
    WRIST = "observation.images.wrist"

    def grp(self, **options):
        wrist = FeatureSpec(self.WRIST, "image", (8, 24, 3), "uint8", ())
        goal = FeatureSpec("goal.image", "image", (8, 24, 3), "uint8", ())
        config = {
            "inputs": {FRONT: IMAGE, self.WRIST: wrist, "goal.image": goal},
            "action": ACTION,
            **SMALL,
            "depth": 1,
        }
        return build_policy("grp", {**config, "stem": "keypoints", "n_obs_steps": 1, **options})

    def test_its_keypoints_read_the_goal(self):
        built = self.grp(goal_camera=self.WRIST).eval()
        batch = make_example_batch(built.config)
        before = built.predict_action_chunk(batch).actions
        with torch.no_grad():
            for parameter in built.stem._encoder(FRONT).parameters():
                parameter.zero_()
        goal_after = built._goal(batch, built.goal_token, batch[FRONT])[1]
        assert goal_after.abs().max() > 0
        assert not torch.equal(built.predict_action_chunk(batch).actions, before)

    def test_a_camera_of_another_size_cannot_read_the_goal(self):
        with pytest.raises(ConfigError, match=r"'goal.image' is 8×24 .* 'observation.images.front', 16×16"):
            self.grp()

    def test_it_must_be_a_camera(self):
        with pytest.raises(ConfigError, match=r"goal_camera 'observation.images.wirst' is not a camera.*wrist"):
            self.grp(goal_camera="observation.images.wirst")
