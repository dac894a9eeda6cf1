"""Options whose loss nothing else would notice: what each of them does to a loss, a prediction or a size."""

import pytest
import torch

from vla_ros.contract import FeatureSpec
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch

FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
MOTION = ("dx", "dy", "dz")
SPHERICAL = {"coordinates": "spherical", "magnitude_names": MOTION}
ACT = {"width": 16, "n_heads": 2, "mlp_dim": 16, "n_encoder_layers": 1, "n_decoder_layers": 1, "head_dims": (16,)}
CVAE = {**ACT, "backbone": "cnn_coarse", "latent_dim": 4}
GRP = {"width": 16, "depth": 1, "n_heads": 2, "text": None}
RT1 = {"trunk": "small_conv", "grid": None, "token_dim": 16, "tokens_per_image": 2, "learner_dim": 8, "depth": 1}
RT1 |= {"n_heads": 2, "mlp_dim": 16, "bins": 16, "text": None}
FLOW_AR = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 16, "mlp_dim": 16},
    "text": None,
    "decode": "autoregressive",
    "bins": 16,
}
ENCODER = ("attention", "dropout", "mlp.dropout")
DECODER = ("attention", "memory_attention", "dropout", "mlp.dropout")


def policy(name: str, *, seed: int = 0, **options):
    """Return a policy in eval mode, over two cameras and a vector, of which no part passes nothing on."""
    torch.manual_seed(seed)
    images = [
        FeatureSpec(key, "image", (32, 32, 3), "uint8", ("height", "width", "channels")) for key in (FRONT, WRIST)
    ]
    state = FeatureSpec(STATE, "vector", (4,), "float32", ("x", "y", "z", "opening"))
    action = FeatureSpec("action", "action", (4,), "float32", (*MOTION, "gripper"))
    inputs = {spec.key: spec for spec in (*images, state)}
    built = build_policy(name, {"inputs": inputs, "action": action, "action_horizon": 5, **options}).eval()
    for parameter in built.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return built


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def predicted(built, seed: int = 0):
    return built.predict_action_chunk(make_example_batch(built.config), generator=noise(seed)).actions


def where_training_draws(built) -> set[str]:
    """Return the modules that, when they alone are in training mode, give a loss that differs from call to call."""
    batch = make_example_batch(built.config, batch_size=4)
    drawing = set()
    for name, module in built.named_modules():
        module.training = True
        first, second = (built.compute_loss(batch, noise()).loss for _ in range(2))
        module.training = False
        if first != second:
            drawing.add(name)
    return drawing


@pytest.mark.parametrize(
    ("name", "options", "places"),
    [
        pytest.param(
            "act_walkthrough",
            {**ACT, "n_obs_steps": 3},
            [f"encoder.layers.0.{part}" for part in ENCODER]
            + [f"decoder.layers.0.{part}" for part in DECODER]
            + ["head.2"],
            id="act",
        ),
        pytest.param(
            "act",
            CVAE,
            [f"{encoder}.layers.0.{part}" for encoder in ("encoder", "latent.encoder") for part in ENCODER]
            + [f"decoder.layers.0.{part}" for part in DECODER]
            + ["head.2"],
            id="act_cvae",
        ),
        pytest.param("grp", GRP, ["blocks.0.attention", "blocks.0.dropout"], id="grp"),
        pytest.param(
            "rt1",
            {**RT1, "n_obs_steps": 3},
            [f"transformer.layers.0.{part}" for part in ("attention", "dropout", "mlp.dropout")],
            id="rt1",
        ),
    ],
)
def test_dropout_acts_on_attention_on_feed_forwards_and_on_what_they_add(name, options, places):
    assert where_training_draws(policy(name, dropout=0.5, **options)) == set(places)
    assert where_training_draws(policy(name, dropout=0.0, **options)) == set()


@pytest.mark.parametrize(("options", "of_its_own"), [(ACT, 0), (CVAE, 64 * 16 + 16)], ids=["act", "act_cvae"])
def test_act_has_one_encoder_for_all_cameras_or_one_each(options, of_its_own):
    name = "act" if options is CVAE else "act_walkthrough"
    shared, separate = (policy(name, share_encoder=share, **options) for share in (True, False))
    counts, more = shared.parameter_counts(), separate.parameter_counts()
    assert more["encoders"] == 2 * counts["encoders"]
    assert more["tokens"] == counts["tokens"] + of_its_own  # a camera's maps to the tokens' width
    assert predicted(shared).shape == predicted(separate).shape


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_divergence_counts_by_its_weight(weight):
    built = policy("act", kl_weight=weight, **CVAE)
    output = built.compute_loss(make_example_batch(built.config), noise())
    assert output.terms["kl"] > 0.1
    torch.testing.assert_close(output.loss, output.terms["l1"] + weight * output.terms["kl"])


@pytest.mark.parametrize(("name", "options"), [("bc", {"hidden_dims": (16,)}), ("act_walkthrough", ACT)])
@pytest.mark.parametrize("longest", [0.5, 1.0])
def test_longest_motion_has_the_length_of_magnitude_max_in_prediction_and_loss(name, options, longest):
    built = policy(name, magnitude_max=longest, dropout=0.0, **SPHERICAL, **options)
    built.head[-1].bias.data.view(-1, 4)[:, 0] = 100.0  # the first of (length, elevation, azimuth, gripper)
    motion = predicted(built)[..., :3]
    torch.testing.assert_close(motion.norm(dim=-1), torch.full((2, 5), longest))
    batch = make_example_batch(built.config)
    assert built.compute_loss({**batch, "action": predicted(built)}).loss < 1e-6


def test_first_and_last_bin_lie_at_bin_low_and_bin_high_in_prediction_and_loss():
    built = policy("flow_ar", bin_low=-0.5, bin_high=2.0, flow_weight=0.0, **FLOW_AR)
    for chosen, action in ((0, -0.5), (15, 2.0)):
        built.action_tokens.logits_out.bias.data.zero_()[chosen] = 100.0
        assert (predicted(built) == action).all()
        batch = make_example_batch(built.config)
        assert built.compute_loss({**batch, "action": torch.full((2, 5, 4), action)}, noise()).loss < 1e-6
        assert built.compute_loss({**batch, "action": torch.full((2, 5, 4), 0.5)}, noise()).loss > 1.0


def test_a_temperature_divides_the_logits():
    divided, warm, plain = (policy("flow_ar", temperature=value, **FLOW_AR) for value in (1.0, 4.0, 1.0))
    for parameter in divided.action_tokens.logits_out.parameters():
        parameter.data /= 4.0
    assert torch.equal(predicted(warm), predicted(divided))
    assert not torch.equal(predicted(warm), predicted(plain))


def test_feed_forwards_of_grp_are_as_wide_as_mlp_ratio_says():
    width, depth = 16, 2
    two, three = (policy("grp", **{**GRP, "depth": depth}, mlp_ratio=ratio).parameter_counts() for ratio in (2, 3))
    assert three["blocks"] - two["blocks"] == depth * (width * width + width + width * width)
