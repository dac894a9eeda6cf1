import pytest
import torch
from safetensors.torch import load_model, save_model

import vla_ros.networks.attention.context as context_module
import vla_ros.policies.pi0.policy as policy_module
from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.data_types.resources import resource_path
from vla_ros.networks import Expert, ExpertOptions, block_causal_mask, block_starts, encode_context
from vla_ros.networks.language.pretrained import copy_gemma
from vla_ros.objectives import Diffusion, draw_flow
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch
from vla_ros.schema import load_yaml

FRONT, WRIST, STATE, GOAL = "observation.images.front", "observation.images.wrist", "observation.state", "goal.image"


def words(length):
    return {"kind": "tokenizer", "source": "nowhere", "length": length, "vocabulary_size": 30}


TINY = {
    "action_horizon": 3,
    "vision": {"kind": "vit", "patch_size": 8, "width": 12, "depth": 1, "n_heads": 2, "mlp_dim": 16},
    "attention": {"depth": 2, "n_heads": 4, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 24, "mlp_dim": 32},
    "action_expert": {"width": 16, "mlp_dim": 20},
    "text": words(4),
}
OBJECTIVES = ["flow_matching", "diffusion"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def image(key, size=8):
    return FeatureSpec(key, "image", (size, size, 3), "uint8", ("height", "width", "channels"))


def vector(key=STATE, size=4):
    return FeatureSpec(key, "vector", (size,), "float32", tuple(f"n{i}" for i in range(size)))


ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))


def policy(*inputs, **options):
    inputs = inputs or (image(FRONT), image(WRIST), vector())
    config = {"inputs": {spec.key: spec for spec in inputs}, "action": ACTION, **TINY, **options}
    return build_policy("pi0", config)


def seed(value=0):
    return torch.Generator().manual_seed(value)


def predicted(built, observation, noise_seed=0):
    return built.eval().predict_action_chunk(observation, generator=seed(noise_seed)).actions


def loss(built, batch, noise_seed=0):
    return built.compute_loss(batch, seed(noise_seed)).loss


def recorded(monkeypatch, module, name):
    """Return the positional arguments of every call of a function that a module uses."""
    calls, function = [], getattr(module, name)

    def spy(*arguments):
        calls.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(module, name, spy)
    return calls


# ── the sequence ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_mask_is_the_documents_nine_by_nine(monkeypatch):
    # two image tokens (one per camera), two text tokens, two frames of proprioception, three actions
    built = policy(text=words(2), n_obs_steps=1)
    calls = recorded(monkeypatch, policy_module, "joint_attention")
    batch = make_example_batch(built.config, batch_size=1)
    batch["task_mask"] = torch.ones(1, 2, dtype=torch.bool)
    parts = built.embed_context(batch)
    wider = parts.segments[1].__class__(parts.segments[1].expert, parts.segments[1].tokens_BLD.repeat(1, 2, 1))
    context = parts.__class__((parts.segments[0], wider), torch.ones(1, 6, dtype=torch.bool))
    built.joint_velocity(context, batch["action"], torch.zeros(1), torch.ones(1, 3, dtype=torch.bool))
    _, positions, allow = calls[0]
    assert allow[0].int().tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert positions[0].tolist() == list(range(9))


def test_padded_text_takes_no_position_and_is_seen_by_nobody(monkeypatch):
    built = policy()
    calls = recorded(monkeypatch, policy_module, "joint_attention")
    batch = make_example_batch(built.config, batch_size=1)
    loss(built, batch)
    _, positions, allow = calls[0]
    # two images, two words, two of padding, one state, three actions
    assert positions[0].tolist() == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7]
    assert not allow[0, :, 4:6].any()
    assert not allow[0, 4:6].any()


def test_experts_differ_in_width_and_handle_their_own_tokens():
    built = policy()
    context = built.embed_context(make_example_batch(built.config))
    assert [s.tokens_BLD.shape[1:] for s in context.segments] == [(6, 24), (1, 16)]
    assert context.segments[0].expert is built.prefix_expert
    assert context.segments[1].expert is built.action_expert


def test_tied_experts_with_gemmas_weights_equal_gemma():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.GemmaConfig(**sizes, num_key_value_heads=1, head_dim=8, vocab_size=30)
    gemma = transformers.GemmaModel._from_config(config, attn_implementation="eager").eval()
    for parameter in gemma.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    built = policy(action_expert={"width": 24, "mlp_dim": 32}).eval()
    copy_gemma(gemma, built.prefix_expert, built.text.embedding)
    copy_gemma(gemma, built.action_expert)
    batch = make_example_batch(built.config)
    with torch.no_grad():
        context = built.embed_context(batch)
        time, valid = torch.tensor([0.3, 0.8]), torch.ones(2, 3, dtype=torch.bool)
        ours = built.joint_velocity(context, batch["action"], time, valid)
        tokens = torch.cat([s.tokens_BLD for s in context.segments] + [built.flow.embed(batch["action"], time)], dim=1)
        everybody = torch.cat([context.valid_BC, valid], dim=1)
        block = torch.tensor([0] * 6 + [1] + [2] * 3)
        allow = (block[None, :] <= block[:, None]) & everybody[:, None, :] & everybody[:, :, None]
        blocked = torch.zeros(2, 1, 10, 10).masked_fill(~allow[:, None], torch.finfo(torch.float32).min)
        positions = everybody.long().cumsum(1) - 1
        hidden = gemma(inputs_embeds=tokens, attention_mask=blocked, position_ids=positions).last_hidden_state
        expected = built.flow.velocity(hidden[:, -3:])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_the_context_is_invariant_to_the_actions(monkeypatch):
    built = policy()
    calls = []
    inner = policy_module.joint_attention

    def spy(*arguments):
        outputs, keys_values = inner(*arguments)
        calls.append((outputs, keys_values))
        return outputs, keys_values

    monkeypatch.setattr(policy_module, "joint_attention", spy)
    batch = make_example_batch(built.config)
    loss(built, batch, 0)
    loss(built, {**batch, "action": -7.0 * batch["action"]}, 1)
    valid = built.embed_context(batch).valid_BC
    for one, other, is_valid in zip(calls[0][0][:2], calls[1][0][:2], valid.split([6, 1], dim=1), strict=True):
        torch.testing.assert_close(one[is_valid], other[is_valid], rtol=0, atol=0)


# ── the cache ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cached_velocity_equals_the_joint_pass():
    built = policy(n_obs_steps=2).eval()
    batch = make_example_batch(built.config, batch_size=3)
    batch["is_pad"][0, 0] = True
    context = built.embed_context(batch)
    time, valid = torch.tensor([0.1, 0.5, 0.9]), torch.ones(3, 3, dtype=torch.bool)
    joint = built.joint_velocity(context, batch["action"], time, valid)
    cached = built.velocity(batch["action"], time, encode_context(context), valid)
    torch.testing.assert_close(cached, joint, rtol=1e-5, atol=1e-5)


def test_ten_euler_steps_cost_one_context_and_ten_action_passes_on_a_cache_that_never_grows(monkeypatch):
    built = policy().eval()
    contexts = recorded(monkeypatch, context_module, "joint_keys_values")
    passes = recorded(monkeypatch, context_module, "joint_attention")
    predicted(built, make_example_batch(built.config))
    assert len(contexts) == 1
    assert len(passes) == 10
    assert {past.length for _, _, _, past in passes} == {7}
    assert all(past is passes[0][3] for _, _, _, past in passes)
    assert all([s.tokens_BLD.shape[1] for s in segments] == [3] for segments, *_ in passes)


def test_sampling_without_a_cache_gives_the_same_actions():
    built = policy().eval()
    batch = make_example_batch(built.config)
    x = torch.randn(2, 3, 4, generator=seed())
    context = built.embed_context(batch)
    with torch.no_grad():
        for step in range(10):
            time, valid = torch.full((2,), step / 10), torch.ones(2, 3, dtype=torch.bool)
            x = x + built.joint_velocity(context, x, time, valid) / 10
    torch.testing.assert_close(predicted(built, batch), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("clip", [1.0, None])
def test_diffusion_without_a_cache_gives_the_same_actions(clip):
    built = policy(objective="diffusion", diffusion_clip=clip).eval()
    batch = make_example_batch(built.config)
    context = built.embed_context(batch)
    valid = torch.ones(2, 3, dtype=torch.bool)
    noise = torch.randn(2, 3, 4, generator=seed())
    with torch.no_grad():
        uncached = Diffusion(100, 10, clip).sample(
            lambda x, time_B: built.joint_velocity(context, x, time_B, valid), noise
        )
    tolerance = 1e-5 * max(1.0, uncached.abs().max().item())  # unclipped, the first step multiplies by hundreds
    torch.testing.assert_close(predicted(built, batch), uncached, rtol=1e-5, atol=tolerance)
    assert (uncached.abs().max() <= 1.0) == (clip is not None)


def test_ddim_steps_cost_one_context_and_an_action_pass_each(monkeypatch):
    built = policy(objective="diffusion", diffusion_train_steps=50, flow_steps=5).eval()
    contexts = recorded(monkeypatch, context_module, "joint_keys_values")
    passes = recorded(monkeypatch, context_module, "joint_attention")
    times = []
    monkeypatch.setattr(built.flow, "embed", lambda x, t, inner=built.flow.embed: (times.append(t), inner(x, t))[1])
    predicted(built, make_example_batch(built.config))
    assert len(contexts) == 1
    assert [past.length for _, _, _, past in passes] == [7] * 5
    assert [time[0].item() for time in times] == pytest.approx([0.98, 0.78, 0.58, 0.38, 0.18])


# ── the loss ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("draws", [1, 3])
def test_the_model_is_asked_about_the_noised_action(monkeypatch, draws):
    built = policy(flow_samples=draws)
    asked = []
    monkeypatch.setattr(
        built.flow, "embed", lambda x, t, inner=built.flow.embed: (asked.append((x, t)), inner(x, t))[1]
    )
    batch = make_example_batch(built.config)
    loss(built, batch, 5)
    expected = draw_flow(batch["action"], batch["action_is_pad"], draws, seed(5))
    torch.testing.assert_close(asked[0][0], expected.noised_BHA)
    torch.testing.assert_close(asked[0][1], expected.time_B)
    assert not torch.allclose(asked[0][0], batch["action"].repeat_interleave(draws, 0))


@pytest.mark.parametrize("draws", [1, 3])
def test_with_diffusion_the_model_is_asked_for_the_noise_in_the_noised_action(monkeypatch, draws):
    built = policy(objective="diffusion", flow_samples=draws)
    asked, answered = [], []
    monkeypatch.setattr(
        built.flow, "embed", lambda x, t, inner=built.flow.embed: (asked.append((x, t)), inner(x, t))[1]
    )
    monkeypatch.setattr(
        built.flow, "velocity", lambda out, inner=built.flow.velocity: (answered.append(inner(out)), answered[-1])[1]
    )
    batch = make_example_batch(built.config)
    output = built.compute_loss(batch, seed(5))
    expected = Diffusion(100).draw(batch["action"], batch["action_is_pad"], draws, seed(5))
    torch.testing.assert_close(asked[0][0], expected.noised_BHA)
    torch.testing.assert_close(asked[0][1], expected.time_B)
    torch.testing.assert_close(output.loss, (answered[0] - expected.noise_BHA).square().mean())
    assert set(output.terms) == {"diffusion"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_draws_that_share_a_context_have_the_mean_loss_of_draws_of_their_own(objective):
    one, three = policy(objective=objective), policy(objective=objective, flow_samples=3)
    three.load_state_dict(one.state_dict())
    batch = make_example_batch(one.config)
    repeated = {key: v.repeat_interleave(3, 0) if torch.is_tensor(v) else v * 3 for key, v in batch.items()}
    torch.testing.assert_close(loss(three, batch), loss(one, repeated), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("draws", [1, 3])
def test_padded_steps_never_change_a_loss(draws, objective):
    built = policy(flow_samples=draws, objective=objective)
    batch = make_example_batch(built.config)
    whole = loss(built, batch)
    batch["action_is_pad"][0, 1:] = True
    cut = loss(built, batch)
    assert cut != whole
    broken = batch["action"].masked_fill(batch["action_is_pad"][..., None], torch.nan)
    other = loss(built, {**batch, "action": broken})
    torch.testing.assert_close(other, cut, rtol=0, atol=0)
    other.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in built.parameters())


def test_a_batch_of_padding_alone_has_loss_zero():
    built = policy()
    batch = make_example_batch(built.config)
    batch["action_is_pad"][:] = True
    assert loss(built, batch) == 0.0


def test_the_loss_draws_from_the_generator_alone():
    built = policy()
    batch = make_example_batch(built.config)
    assert loss(built, batch, 1) == loss(built, batch, 1)
    assert loss(built, batch, 1) != loss(built, batch, 2)


def test_every_weight_is_trained_but_those_nobody_reads_and_the_bias_of_keys():
    built = policy(image(FRONT, 16), image(WRIST, 16), vector())  # four patches: over one, attention has no choice
    loss(built, make_example_batch(built.config)).backward()
    # Float32 rounds what cancels to about 1e-8; whatever else is trained gets 1e-3 and more.
    untrained = {name for name, p in built.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-5}
    # what the last layer makes of the prefix's tokens after attention is seen by no action
    last = "prefix_expert.layers.1."
    unread = {last + part for part in ("attention.query.weight", "attention.output.weight", "mlp_norm.weight")}
    unread |= {f"{last}mlp.{part}.weight" for part in ("gate", "up", "down")} | {"prefix_expert.final_norm.weight"}
    # a bias of keys adds the same to all scores of a query, which softmax does not see
    assert untrained == unread | {"cameras.encoders.0.encoder.layers.0.attention.key.bias"}


# ── padding ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_stands_in_padded_text_and_frames_never_changes_an_output():
    built = policy(n_obs_steps=3)
    batch = make_example_batch(built.config)
    batch["is_pad"][1, :2] = True
    before, trained = predicted(built, batch), loss(built, batch)
    changed = {**batch, "task_tokens": batch["task_tokens"].masked_fill(~batch["task_mask"], -100)}
    for key in (FRONT, WRIST, STATE):
        changed[key] = batch[key].clone()
        changed[key][1, :2] = torch.nan
    torch.testing.assert_close(predicted(built, changed), before, rtol=0, atol=0)
    torch.testing.assert_close(loss(built, changed), trained, rtol=0, atol=0)


def test_longer_padding_never_changes_an_output():
    short, long = policy(text=words(4)), policy(text=words(9))
    long.load_state_dict(short.state_dict())
    batch = make_example_batch(short.config)
    padded = {**batch, "task_tokens": torch.full((2, 9), 7), "task_mask": torch.zeros(2, 9, dtype=torch.bool)}
    padded["task_tokens"][:, :4], padded["task_mask"][:, :4] = batch["task_tokens"], batch["task_mask"]
    torch.testing.assert_close(predicted(long, padded), predicted(short, batch), rtol=1e-5, atol=1e-6)


def test_valid_text_frames_and_cameras_do_change_the_output():
    built = policy(n_obs_steps=2)
    batch = make_example_batch(built.config)
    before = predicted(built, batch)
    for key in (FRONT, WRIST, STATE):
        assert not torch.allclose(predicted(built, {**batch, key: batch[key] + 1.0}), before), key
    assert not torch.allclose(predicted(built, {**batch, "task_tokens": (batch["task_tokens"] + 1) % 30}), before)


# ── goal image ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_goal_goes_through_the_cameras_weights_and_changes_the_action():
    built = policy(image(FRONT), vector(), image(GOAL), goal_dropout=0.5)
    assert len(built.cameras.encoders) == 1
    batch = make_example_batch(built.config)
    assert not torch.allclose(predicted(built, batch), predicted(built, {**batch, GOAL: batch[GOAL] + 1.0}))


def test_a_goal_that_is_not_given_equals_a_dropped_one():
    built = policy(image(FRONT), vector(), image(GOAL), goal_dropout=0.5)
    batch = make_example_batch(built.config)
    without = {key: value for key, value in batch.items() if key != GOAL}
    dropped = built.embed_context(batch, drop_goal_B=torch.tensor([True, True]))
    expected = built.sample_flow(encode_context(dropped), seed())
    torch.testing.assert_close(predicted(built, without), expected)


def test_goals_are_dropped_in_training_as_often_as_asked(monkeypatch):
    built = policy(image(FRONT), vector(), image(GOAL), goal_dropout=0.25)
    calls = []
    monkeypatch.setattr(
        built, "embed_context", lambda b, drop, inner=built.embed_context: (calls.append(drop), inner(b, drop))[1]
    )
    loss(built, make_example_batch(built.config, batch_size=400))
    assert calls[0].float().mean().item() == pytest.approx(0.25, abs=0.06)


def test_without_dropout_a_missing_goal_is_refused():
    built = policy(image(FRONT), vector(), image(GOAL))
    batch = make_example_batch(built.config)
    del batch[GOAL]
    with pytest.raises(ObservationError, match=r"'goal\.image' is missing"):
        predicted(built, batch)


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_text_is_one_sentence_that_names_it():
    built = policy()
    batch = make_example_batch(built.config)
    del batch["task_mask"]
    with pytest.raises(ObservationError, match="lacks task_mask, which text of kind 'tokenizer' becomes"):
        predicted(built, batch)


def test_text_of_another_length_is_refused():
    built = policy()
    batch = make_example_batch(built.config)
    batch["task_tokens"] = batch["task_tokens"][:, :3]
    with pytest.raises(ObservationError, match=r"'task_tokens' must be \[B=2, L=4\], got \[2, 3\]"):
        predicted(built, batch)


@pytest.mark.parametrize(
    ("inputs", "options", "sentence"),
    [
        ((vector(),), {}, "no camera among observation.state"),
        ((image(FRONT), image(WRIST, 16)), {}, "share needs cameras of one image size"),
        ((image(FRONT), image(GOAL, 16)), {}, "'goal.image' is"),
        ((image(FRONT),), {"goal_dropout": 0.1}, "'goal.image' is not among the inputs"),
        ((image(FRONT),), {"flow_steps": 0}, "flow_steps=0 must be at least 1"),
        ((image(FRONT),), {"vision": {"kind": "keypoints"}, "pretrained_vision": "x"}, "needs vision.kind 'vit'"),
        ((image(FRONT),), {"flow_step": 3}, "Did you mean 'flow_steps'"),
        ((image(FRONT),), {"vision": {"kind": "vti"}}, "Did you mean 'vit'"),
        ((image(FRONT),), {"objective": "difusion"}, "Did you mean 'diffusion'"),
        ((image(FRONT),), {"diffusion_clip": -1.0}, "diffusion_clip=-1 must be above 0; null clips nothing"),
        ((image(FRONT),), {"diffusion_train_steps": 0}, "diffusion_train_steps=0 must be at least 1"),
        (
            (image(FRONT),),
            {"objective": "diffusion", "flow_steps": 101},
            "flow_steps=101 exceeds diffusion_train_steps=100",
        ),
    ],
)
def test_contradictions_are_refused_in_a_sentence(inputs, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        policy(*inputs, **options)


def test_clipped_diffusion_needs_actions_normalised_to_where_it_clips():
    assert policy(objective="diffusion").config.bounded_actions
    assert not policy(objective="diffusion", diffusion_clip=4.0).config.bounded_actions
    assert not policy(objective="diffusion", diffusion_clip=None).config.bounded_actions
    assert not policy().config.bounded_actions


# ── the policy as a whole ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("text", [None, words(4)], ids=["no_text", "text"])
def test_predictions_have_the_shape_of_a_chunk(frames, text):
    built = policy(n_obs_steps=frames, text=text)
    output = built.eval().predict_action_chunk(make_example_batch(built.config))
    assert output.actions.shape == (2, 3, 4)
    assert output.state is None


def test_it_works_without_proprioception():
    built = policy(image(FRONT))
    batch = make_example_batch(built.config)
    assert predicted(built, batch).shape == (2, 3, 4)
    assert loss(built, batch) > 0.0


def test_equal_noise_gives_equal_actions_and_other_noise_others():
    built = policy()
    batch = make_example_batch(built.config)
    torch.testing.assert_close(predicted(built, batch, 1), predicted(built, batch, 1), rtol=0, atol=0)
    assert not torch.allclose(predicted(built, batch, 1), predicted(built, batch, 2))


def test_samples_of_a_batch_do_not_meet():
    built = policy()
    batch = make_example_batch(built.config)
    changed = {key: v.clone() if torch.is_tensor(v) else v for key, v in batch.items()}
    changed[FRONT][1] += 1.0
    before, after = predicted(built, batch), predicted(built, changed)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_saved_and_loaded_it_predicts_identically(tmp_path, objective):
    built = policy(objective=objective)
    fresh = build_policy("pi0", built.config.to_dict())
    batch = make_example_batch(built.config)
    save_model(built, str(tmp_path / "model.safetensors"))
    assert not torch.equal(predicted(fresh, batch), predicted(built, batch))
    load_model(fresh, str(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(predicted(fresh, batch), predicted(built, batch))


def test_the_objective_changes_no_weight():
    one, other = (policy(objective=objective).state_dict() for objective in OBJECTIVES)
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in other.items()}
    assert policy().config.objective == "flow_matching"


@pytest.mark.slow
@pytest.mark.parametrize("clip", [1.0, 4.0])
def test_with_diffusion_it_overfits_one_batch(clip):
    built = policy(image(FRONT, 16), vector(), objective="diffusion", diffusion_clip=clip, flow_samples=32, text=None)
    batch = make_example_batch(built.config, batch_size=3)
    optimiser, noise = torch.optim.Adam(built.parameters(), lr=1e-2), seed(1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    built.train()
    for _ in range(300):
        optimiser.zero_grad()
        built.compute_loss(batch, noise).loss.backward()
        optimiser.step()
        falling.step()
    errors = torch.stack([(predicted(built, batch, draw) - batch["action"]).abs().mean() for draw in range(8)])
    assert errors.mean() < 0.15


@pytest.mark.parametrize(
    "vision",
    [TINY["vision"], pytest.param({"kind": "keypoints", "share": False, "n_tokens": 2}, marks=pytest.mark.slow)],
    ids=["patches", "keypoints"],
)
def test_it_overfits_one_batch(vision):
    built = policy(image(FRONT, 16), vector(), vision=vision, flow_samples=8, text=None)
    batch = make_example_batch(built.config, batch_size=3)
    optimiser, noise = torch.optim.Adam(built.parameters(), lr=1e-2), seed(1)
    untrained = (predicted(built, batch) - batch["action"]).abs().mean()
    built.train()
    for _ in range(150):
        optimiser.zero_grad()
        built.compute_loss(batch, noise).loss.backward()
        optimiser.step()
    assert (predicted(built, batch) - batch["action"]).abs().mean() < 0.15 * untrained


def test_the_published_size_is_the_papers():
    options = load_yaml(resource_path("config/policies/pi0.yaml"), ConfigError)
    inputs = {key: image(key, 224) for key in (FRONT, WRIST)} | {STATE: vector(size=14)}
    with torch.device("meta"):
        built = build_policy("pi0", {"inputs": inputs, "action": ACTION, **options})
    counts = built.parameter_counts()
    assert counts["action_expert"] == 311_464_960
    assert counts["prefix_expert"] == 1_981_884_416
    assert built.cameras.encoders[0].n_tokens == 256
    assert 3.2e9 < counts["total"] < 3.3e9


def test_the_small_size_is_below_three_million():
    options = load_yaml(resource_path("config/policies/pi0_small.yaml"), ConfigError)
    inputs = {key: image(key, 84) for key in (FRONT, WRIST)} | {STATE: vector()}
    built = build_policy("pi0", {"inputs": inputs, "action": ACTION, **options})
    assert 1e6 < built.parameter_counts()["total"] < 3e6
    assert predicted(built, make_example_batch(built.config)).shape == (2, 8, 4)


def test_pretrained_weights_are_taken_up_only_when_asked_for(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    gemma = transformers.GemmaModel(transformers.GemmaConfig(**sizes, num_key_value_heads=1, head_dim=8, vocab_size=30))
    gemma.save_pretrained(tmp_path)
    built = policy(pretrained_language=str(tmp_path))
    weight = gemma.layers[0].mlp.up_proj.weight
    assert not torch.equal(built.prefix_expert.layer(0).mlp.up.weight, weight)
    built.load_pretrained()
    torch.testing.assert_close(built.prefix_expert.layer(0).mlp.up.weight, weight)
    torch.testing.assert_close(built.text.embedding.weight, gemma.embed_tokens.weight)


def test_experts_are_interchangeable_modules():
    built = policy()
    assert isinstance(built.action_expert, Expert)
    assert built.action_expert.options == ExpertOptions(width=16, mlp_dim=20)


def test_its_layout_is_the_mask_that_training_uses():
    built = policy(image(FRONT), image(WRIST), vector(), image(GOAL), text={"kind": "characters", "length": 5})
    context = built.embed_context(make_example_batch(built.config))
    layout, valid = built.layout, torch.ones(1, len(built.layout), dtype=torch.bool)
    assert [span.name for span in layout.spans] == [FRONT, WRIST, GOAL, "text", "proprioception", "actions"]
    assert len(layout) == sum(context.lengths) + built.config.action_horizon
    starts = block_starts([*context.lengths, built.config.action_horizon])
    assert torch.equal(layout.mask(valid), block_causal_mask(starts, valid))
