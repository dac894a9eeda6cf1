"""The published ACT beside lerobot's, with the same weights. Runs where lerobot is; its pins exclude our torch."""

import pytest
import torch

from vla_ros.contract import FeatureSpec
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch

CAMERAS = ["observation.images.front", "observation.images.wrist"]
STATE = "observation.state"
WIDTH, HEADS, MLP, LATENT, HORIZON = 32, 4, 48, 8, 6


def copy_attention(ours, theirs):
    weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    for part, weight, bias in zip((ours.query, ours.key, ours.value), weights, biases, strict=True):
        part.load_state_dict({"weight": weight, "bias": bias})
    copy(ours.output, theirs.out_proj)


def copy_layers(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        copy_attention(our.attention, their.self_attn)
        norms = ["attention_norm", "mlp_norm"]
        if hasattr(their, "multihead_attn"):
            copy_attention(our.memory_attention, their.multihead_attn)
            norms.insert(1, "memory_norm")
        for number, norm in enumerate(norms, start=1):
            copy(getattr(our, norm), getattr(their, f"norm{number}"))
        copy(our.mlp.inner, their.linear1)
        copy(our.mlp.outer, their.linear2)


def copy(ours, theirs):
    ours.load_state_dict(theirs.state_dict())


def copy_act(ours, theirs):
    backbone = ours.encoders.of(CAMERAS[0])
    weights = theirs.backbone.state_dict()
    counters = {name: value for name, value in backbone.state_dict().items() if name.endswith("num_batches_tracked")}
    backbone.load_state_dict({**weights, **counters})
    copy(ours.tokens.latent, theirs.encoder_latent_input_proj)
    copy(ours.tokens.state, theirs.encoder_robot_state_input_proj)
    copy(ours.tokens.maps[0], theirs.encoder_img_feat_input_proj)
    ours.tokens.vector_positions_ND.data = theirs.encoder_1d_feature_pos_embed.weight.data.clone()
    copy_layers(ours.encoder.layers, theirs.encoder.layers)
    copy_layers(ours.decoder.layers, theirs.decoder.layers)
    copy(ours.decoder.final_norm, theirs.decoder.norm)
    ours.queries_HD.data = theirs.decoder_pos_embed.weight.data.clone()
    copy(ours.head[0], theirs.action_head)
    ours.latent.class_token_D.data = theirs.vae_encoder_cls_embed.weight.data[0].clone()
    copy(ours.latent.state, theirs.vae_encoder_robot_state_input_proj)
    copy(ours.latent.action, theirs.vae_encoder_action_input_proj)
    copy_layers(ours.latent.encoder.layers, theirs.vae_encoder.layers)
    copy(ours.latent.output, theirs.vae_encoder_latent_output_proj)


@pytest.fixture(scope="module")
def pair():
    reason = "lerobot is not installed: its versions of torch exclude ours"
    modeling = pytest.importorskip("lerobot.policies.act.modeling_act", reason=reason)
    configuration = pytest.importorskip("lerobot.policies.act.configuration_act", reason=reason)
    types = pytest.importorskip("lerobot.configs.types", reason=reason)
    feature, kind = types.PolicyFeature, types.FeatureType
    config = configuration.ACTConfig(
        input_features={
            **{key: feature(type=kind.VISUAL, shape=(3, 64, 64)) for key in CAMERAS},
            STATE: feature(type=kind.STATE, shape=(5,)),
        },
        output_features={"action": feature(type=kind.ACTION, shape=(4,))},
        chunk_size=HORIZON,
        n_action_steps=HORIZON,
        dim_model=WIDTH,
        n_heads=HEADS,
        dim_feedforward=MLP,
        n_encoder_layers=2,
        n_vae_encoder_layers=2,
        n_decoder_layers=3,
        latent_dim=LATENT,
        dropout=0.0,
        pretrained_backbone_weights=None,
        device="cpu",
    )
    torch.manual_seed(0)
    theirs = modeling.ACT(config).eval()
    inputs = {
        **{key: FeatureSpec(key, "image", (64, 64, 3), "uint8", ("h", "w", "c")) for key in CAMERAS},
        STATE: FeatureSpec(STATE, "vector", (5,), "float32", tuple("abcde")),
    }
    options = {
        "inputs": inputs,
        "action": FeatureSpec("action", "action", (4,), "float32", tuple("xyzg")),
        "cvae": True,
        "backbone": "resnet18_frozen_norm",
        "share_encoder": True,
        "action_horizon": HORIZON,
        "width": WIDTH,
        "n_heads": HEADS,
        "mlp_dim": MLP,
        "n_encoder_layers": 2,
        "n_decoder_layers": 3,
        "latent_dim": LATENT,
        "dropout": 0.0,
    }
    ours = build_policy("act", options).eval()
    copy_act(ours, theirs)
    return ours, theirs


def their_batch(batch):
    return {
        "observation.images": [batch[key][:, -1] for key in CAMERAS],
        STATE: batch[STATE][:, -1],
        "action": batch["action"],
        "action_is_pad": batch["action_is_pad"],
    }


def test_predictions_equal_those_of_lerobot(pair):
    ours, theirs = pair
    batch = make_example_batch(ours.config, 3)
    with torch.no_grad():
        expected = theirs(their_batch(batch))[0]
        torch.testing.assert_close(ours.predict_action_chunk(batch).actions, expected, rtol=1e-4, atol=1e-5)


def test_latents_equal_those_of_lerobot(pair):
    ours, theirs = pair
    batch = make_example_batch(ours.config, 3)
    batch["action_is_pad"][1, 3:] = True
    theirs.train()  # it encodes actions in training only; dropout is 0 and the norms are frozen
    mean, log_variance = theirs(their_batch(batch))[1]
    theirs.eval()
    got_mean, got_log_variance = ours.latent(batch["action"], batch["action_is_pad"], batch[STATE][:, -1])
    torch.testing.assert_close(got_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got_log_variance, log_variance, rtol=1e-4, atol=1e-5)
