"""π₀ of transformers, with its weights copied into ours, computes the same.

Its time runs the other way (1 is noise) and its velocity points to the noise: conventions outside the network. As
functions of a noisy chunk and a time the two networks are the same.
"""

import pytest
import torch
from transformers import PI0Config, PI0ForConditionalGeneration

from vla_ros.contract import FeatureSpec
from vla_ros.networks.language.pretrained import copy_gemma, copy_patch_tokens
from vla_ros.objectives import integrate_flow
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch

FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
SIDE, PATCH, WIDTH, NARROW, DEPTH, HORIZON, WORDS, SIZE = 16, 8, 32, 24, 3, 5, 6, 7
IMAGE_TOKEN, VOCABULARY = 39, 40
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "num_hidden_layers": DEPTH}


@pytest.fixture(scope="module")
def theirs():
    vision = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3}
    vision |= {"image_size": SIDE, "patch_size": PATCH, "projection_dim": WIDTH, "vision_use_head": False}
    language = {"hidden_size": WIDTH, "intermediate_size": 48, "vocab_size": VOCABULARY, **HEADS}
    config = PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "vision_config": {**vision, "model_type": "siglip_vision_model"},
            "text_config": {**language, "model_type": "gemma"},
            "projection_dim": WIDTH,
            "image_token_index": IMAGE_TOKEN,
        },
        dit_config={"model_type": "gemma", "hidden_size": NARROW, "intermediate_size": 36, "vocab_size": 8, **HEADS},
        chunk_size=HORIZON,
        max_action_dim=SIZE,
        max_state_dim=SIZE,
    )
    torch.manual_seed(0)
    model = PI0ForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.2
    # float32 angles are off by 1e-4 at its highest frequencies; ours are computed in float64
    time = model.embed_action_time.sinusoid_embeds
    spacing = torch.linspace(0.0, 1.0, NARROW // 2, dtype=torch.float64)
    time.sinusoid_freq = 2.0 * torch.pi / (4e-3 * 1000.0**spacing)
    return model


@pytest.fixture(scope="module")
def ours(theirs):
    image = ("image", (SIDE, SIDE, 3), "uint8", ("height", "width", "channels"))
    numbers = tuple(f"n{index}" for index in range(SIZE))
    inputs = {key: FeatureSpec(key, *image) for key in (FRONT, WRIST)}
    inputs[STATE] = FeatureSpec(STATE, "vector", (SIZE,), "float32", numbers)
    options = {
        "inputs": inputs,
        "action": FeatureSpec("action", "action", (SIZE,), "float32", numbers),
        "action_horizon": HORIZON,
        "vision": {"kind": "vit", "patch_size": PATCH, "width": 12, "depth": 2, "n_heads": 3, "mlp_dim": 20},
        "attention": {"depth": DEPTH, "n_heads": 4, "n_kv_heads": 1, "head_dim": 8},
        "prefix_expert": {"width": WIDTH, "mlp_dim": 48},
        "action_expert": {"width": NARROW, "mlp_dim": 36},
        "text": {"kind": "tokenizer", "source": "nowhere", "length": WORDS, "vocabulary_size": VOCABULARY},
    }
    built = build_policy("pi0", options).eval()
    copy_gemma(theirs.model.vlm, built.prefix_expert, built.text.embedding)
    copy_gemma(theirs.model.dit, built.action_expert)
    copy_patch_tokens(theirs.model.vlm, built.cameras.encoders[0])
    embed = theirs.embed_action_time
    for own, other in (
        (built.state, embed.state_proj),
        (built.flow.action_in, embed.action_in_proj),
        (built.flow.time_in, embed.action_time_mlp_in),
        (built.flow.time_out, embed.action_time_mlp_out),
        (built.flow.velocity_out, theirs.action_out_proj),
    ):
        own.load_state_dict(other.state_dict())
    return built


def batch_of(ours):
    batch = make_example_batch(ours.config, 3)
    batch["task_tokens"] = torch.randint(1, IMAGE_TOKEN, (3, WORDS), generator=torch.Generator().manual_seed(1))
    batch["task_mask"] = torch.arange(WORDS) < torch.tensor([[2], [6], [4]])
    return batch


def velocity_of(theirs, batch, noised, time):
    pictures = 2 * (SIDE // PATCH) ** 2
    ids = torch.cat([torch.full((3, pictures), IMAGE_TOKEN), batch["task_tokens"]], dim=1)
    seen = torch.cat([torch.ones(3, pictures, dtype=torch.long), batch["task_mask"].long()], dim=1)
    return theirs(
        state=batch[STATE][:, -1],
        noise=noised,
        timestep=time,
        input_ids=ids,
        attention_mask=seen,
        pixel_values=torch.stack([batch[FRONT][:, -1], batch[WRIST][:, -1]], dim=1),
        pixel_attention_mask=torch.ones(3, 2, dtype=torch.bool),
    ).logits


@pytest.mark.parametrize("time", [0.0, 0.1, 0.5, 0.983])
def test_velocities_equal_those_of_transformers(ours, theirs, time):
    batch, time_B = batch_of(ours), torch.full((3,), time)
    noised = torch.randn(3, HORIZON, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = velocity_of(theirs, batch, noised, time_B)
        got = ours.joint_velocity(ours.embed_context(batch), noised, time_B, torch.ones(3, HORIZON, dtype=torch.bool))
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-5)


def test_actions_equal_those_that_the_velocities_of_transformers_lead_to(ours, theirs):
    batch = batch_of(ours)
    got = ours.predict_action_chunk(batch, generator=torch.Generator().manual_seed(3)).actions
    noise = torch.randn((3, HORIZON, SIZE), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = integrate_flow(lambda x, time: velocity_of(theirs, batch, x, time).float(), noise, 10)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
