import pytest
import torch
from safetensors.torch import load_model, save_model

import vla_ros.networks.attention.context as context_module
from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.data_types.resources import resource_path
from vla_ros.networks import encode_context
from vla_ros.objectives import draw_flow
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch
from vla_ros.policies.flow_ar.sequence import joint_layout
from vla_ros.schema import load_yaml

FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
TINY = {
    "action_horizon": 3,
    "bins": 16,
    "vision": {"kind": "vit", "patch_size": 8, "width": 12, "depth": 1, "n_heads": 2, "mlp_dim": 16},
    "attention": {"depth": 2, "n_heads": 4, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 24, "mlp_dim": 32},
    "action_expert": {"width": 16, "mlp_dim": 20},
    "text": {"kind": "tokenizer", "source": "nowhere", "length": 4, "vocabulary_size": 30},
}
ACTION = FeatureSpec("action", "action", (2,), "float32", ("dx", "dy"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def image(key, size=8):
    return FeatureSpec(key, "image", (size, size, 3), "uint8", ("height", "width", "channels"))


def vector(key=STATE, size=4):
    return FeatureSpec(key, "vector", (size,), "float32", tuple(f"n{i}" for i in range(size)))


def policy(*inputs, **options):
    inputs = inputs or (image(FRONT), image(WRIST), vector())
    return build_policy("flow_ar", {"inputs": {spec.key: spec for spec in inputs}, "action": ACTION, **TINY, **options})


def seed(value=0):
    return torch.Generator().manual_seed(value)


def predicted(built, observation, noise_seed=0):
    return built.eval().predict_action_chunk(observation, generator=seed(noise_seed)).actions


def parts(built, batch, noise_seed=0):
    """Return the embedded context, a flow draw and the bins of a batch."""
    draw = draw_flow(batch["action"], batch["action_is_pad"], 1, seed(noise_seed))
    return built.embed_context(batch), draw, built.bins.encode(batch["action"]).flatten(1)


def ones(*shape):
    return torch.ones(*shape, dtype=torch.bool)


# ── the sequence ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_mask_is_the_documents_twelve_by_twelve():
    allow, positions = joint_layout([4, 2], ones(1, 6), ones(1, 3), ones(1, 3))
    assert allow[0].int().tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1],
    ]
    assert positions[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8]


def test_both_decoders_begin_after_the_valid_context():
    valid = torch.tensor([[True, True, False, True]])
    _, positions = joint_layout([3, 1], valid, ones(1, 2), ones(1, 3))
    assert positions[0].tolist() == [0, 1, 1, 2, 3, 4, 3, 4, 5]


def test_the_layout_of_one_decoder_is_that_of_both_without_the_other():
    valid = torch.tensor([[True, False, True, True]])
    allow, positions = joint_layout([3, 1], valid, ones(1, 2), ones(1, 3))
    for kept, flow, tokens in (([0, 1, 2, 3, 4, 5], 2, 0), ([0, 1, 2, 3, 6, 7, 8], 0, 3)):
        alone_allow, alone_positions = joint_layout([3, 1], valid, ones(1, flow), ones(1, tokens))
        torch.testing.assert_close(alone_allow, allow[:, kept][:, :, kept])
        torch.testing.assert_close(alone_positions, positions[:, kept])


def test_action_tokens_are_handled_by_the_language_models_expert(monkeypatch):
    built = policy()
    segments = []
    import vla_ros.policies.flow_ar.policy as module

    inner = module.joint_attention
    monkeypatch.setattr(module, "joint_attention", lambda s, *rest: (segments.append(s), inner(s, *rest))[1])
    built.compute_loss(make_example_batch(built.config), seed())
    prefix, action = built.prefix_expert, built.action_expert
    assert [s.expert is prefix or s.expert is not action for s in segments[0]] == [True, False, False, True]
    assert [s.tokens_BLD.shape[1] for s in segments[0]] == [6, 1, 3, 6]


# ── independence of the decoders ──────────────────────────────────────────────────────────────────────────────────────


def test_removing_the_flow_changes_no_logit():
    built = policy()
    context, draw, bins = parts(built, make_example_batch(built.config))
    _, logits = built.joint(context, draw, bins)
    none, alone = built.joint(context, None, bins)
    assert none is None
    torch.testing.assert_close(alone, logits, rtol=1e-5, atol=1e-5)


def test_removing_the_action_tokens_changes_no_velocity():
    built = policy()
    context, draw, bins = parts(built, make_example_batch(built.config))
    velocity, _ = built.joint(context, draw, bins)
    alone, none = built.joint(context, draw, None)
    assert none is None
    torch.testing.assert_close(alone, velocity, rtol=1e-5, atol=1e-5)


def test_what_one_decoder_holds_never_reaches_the_other():
    built = policy()
    context, draw, bins = parts(built, make_example_batch(built.config))
    other = draw.__class__(draw.actions_BHA * -9.0, draw.noise_BHA, draw.time_B, draw.is_pad_BH)
    velocity, logits = built.joint(context, draw, bins)
    torch.testing.assert_close(built.joint(context, other, bins)[1], logits, rtol=0, atol=0)
    torch.testing.assert_close(built.joint(context, draw, (bins + 5) % 16)[0], velocity, rtol=0, atol=0)


def test_a_logit_depends_on_the_tokens_before_it_alone():
    built = policy()
    context, _, bins = parts(built, make_example_batch(built.config))
    _, logits = built.joint(context, None, bins)
    for changed in range(6):
        other = bins.clone()
        other[:, changed] = (other[:, changed] + 3) % 16
        different = (built.joint(context, None, other)[1] != logits).any(-1)[0]
        # token j is fed bin j - 1: a bin never sees itself
        assert different.tolist() == [j > changed for j in range(6)]


def test_the_beginning_is_fed_first_and_the_last_bin_never():
    built = policy()
    assert built.action_tokens.shifted(torch.tensor([[4, 7, 9]])).tolist() == [[16, 4, 7]]


# ── the cache ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cached_decoders_equal_the_joint_pass():
    built = policy(n_obs_steps=2).eval()
    batch = make_example_batch(built.config, batch_size=3)
    batch["is_pad"][0, 0] = True
    context, draw, bins = parts(built, batch)
    velocity, logits = built.joint(context, draw, bins)
    encoded = encode_context(context)
    torch.testing.assert_close(built.velocity(draw.noised_BHA, draw.time_B, encoded), velocity, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(built.logits(bins, encoded), logits, rtol=1e-5, atol=1e-5)


def test_tokens_decoded_one_by_one_are_the_likeliest_of_the_teacher_forced_pass():
    built = policy().eval()
    context, _, _ = parts(built, make_example_batch(built.config))
    bins = built.sample_bins(encode_context(context))
    _, logits = built.joint(context, None, bins)
    torch.testing.assert_close(logits.argmax(-1), bins)


def test_each_decoded_token_costs_one_pass_over_one_token_and_the_context_one(monkeypatch):
    built = policy(decode="autoregressive")
    calls, inner = [], context_module.joint_attention
    contexts, encode = [], context_module.joint_keys_values
    monkeypatch.setattr(context_module, "joint_attention", lambda s, *r: (calls.append((s, r[2])), inner(s, *r))[1])
    monkeypatch.setattr(context_module, "joint_keys_values", lambda *a: (contexts.append(a), encode(*a))[1])
    predicted(built, make_example_batch(built.config))
    assert len(contexts) == 1
    assert [s[0].tokens_BLD.shape[1] for s, _ in calls] == [1] * 6
    assert [past.length for _, past in calls] == [7, 8, 9, 10, 11, 12]


def test_the_flow_decoder_runs_no_action_token(monkeypatch):
    built = policy(decode="flow")
    monkeypatch.setattr(built.action_tokens, "embed", None)
    assert predicted(built, make_example_batch(built.config)).shape == (2, 3, 2)


def test_the_autoregressive_decoder_runs_no_flow(monkeypatch):
    built = policy(decode="autoregressive")
    monkeypatch.setattr(built.flow, "embed", None)
    actions = predicted(built, make_example_batch(built.config))
    assert actions.shape == (2, 3, 2)
    torch.testing.assert_close(built.bins.decode(built.bins.encode(actions)), actions)


def test_sampling_at_a_temperature_follows_the_generator():
    built = policy(decode="autoregressive", temperature=1.0)
    batch = make_example_batch(built.config)
    assert torch.equal(predicted(built, batch, 1), predicted(built, batch, 1))
    assert not torch.equal(predicted(built, batch, 1), predicted(built, batch, 2))


# ── the loss ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_is_the_weighted_sum_of_its_terms():
    built = policy(flow_weight=2.0, autoregressive_weight=0.3)
    output = built.compute_loss(make_example_batch(built.config), seed())
    torch.testing.assert_close(output.loss, 2.0 * output.terms["flow"] + 0.3 * output.terms["cross_entropy"])


def test_diffusion_in_the_flows_place_leaves_the_action_tokens_alone():
    flow, diffusion = policy(), policy(objective="diffusion", flow_weight=2.0)
    diffusion.load_state_dict(flow.state_dict())
    batch = make_example_batch(flow.config)
    expected, got = flow.compute_loss(batch, seed()), diffusion.compute_loss(batch, seed())
    assert set(got.terms) == {"diffusion", "cross_entropy"}
    torch.testing.assert_close(got.terms["cross_entropy"], expected.terms["cross_entropy"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.loss, 2.0 * got.terms["diffusion"] + got.terms["cross_entropy"])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"autoregressive_weight": 0.0}, "flow"),
        ({"autoregressive_weight": 0.0, "objective": "diffusion"}, "diffusion"),
        ({"flow_weight": 0.0, "decode": "autoregressive"}, "cross_entropy"),
    ],
)
@pytest.mark.parametrize("draws", [1, 3])
def test_either_decoder_trains_alone_to_the_same_loss(options, name, draws):
    objective = options.get("objective", "flow_matching")
    both = policy(flow_samples=draws, objective=objective)
    one = policy(**({} if "flow_weight" in options else {"flow_samples": draws}), **options)
    one.load_state_dict(both.state_dict())
    batch = make_example_batch(both.config)
    expected, alone = both.compute_loss(batch, seed()).terms, one.compute_loss(batch, seed())
    assert set(alone.terms) == {name}
    torch.testing.assert_close(alone.loss, expected[name], rtol=1e-5, atol=1e-6)


def test_draws_that_share_a_context_have_the_mean_loss_of_draws_of_their_own():
    one, three = policy(), policy(flow_samples=3)
    three.load_state_dict(one.state_dict())
    batch = make_example_batch(one.config)
    repeated = {key: v.repeat_interleave(3, 0) if torch.is_tensor(v) else v * 3 for key, v in batch.items()}
    expected, got = one.compute_loss(repeated, seed()), three.compute_loss(batch, seed())
    for name in ("flow", "cross_entropy"):
        torch.testing.assert_close(got.terms[name], expected.terms[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("objective", "term"), [("flow_matching", "flow"), ("diffusion", "diffusion")])
@pytest.mark.parametrize("draws", [1, 3])
def test_padded_steps_never_change_a_loss(draws, objective, term):
    built = policy(flow_samples=draws, objective=objective)
    batch = make_example_batch(built.config)
    whole = built.compute_loss(batch, seed())
    batch["action_is_pad"][0, 1:] = True
    cut = built.compute_loss(batch, seed())
    assert all(cut.terms[name] != whole.terms[name] for name in (term, "cross_entropy"))
    broken = batch["action"].masked_fill(batch["action_is_pad"][..., None], torch.nan)
    other = built.compute_loss({**batch, "action": broken}, seed())
    assert all(torch.equal(other.terms[name], cut.terms[name]) for name in cut.terms)
    other.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in built.parameters())


def test_a_batch_of_padding_alone_has_loss_zero():
    built = policy()
    batch = make_example_batch(built.config)
    batch["action_is_pad"][:] = True
    assert built.compute_loss(batch, seed()).loss == 0.0


def test_every_weight_is_trained_but_the_bias_of_keys():
    built = policy(image(FRONT, 16), image(WRIST, 16), vector())  # four patches: over one, attention has no choice
    built.compute_loss(make_example_batch(built.config), seed()).loss.backward()
    # Float32 rounds what cancels to about 1e-8; whatever else is trained gets 1e-3 and more.
    untrained = {name for name, p in built.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-5}
    # It adds the same to all scores of a query, which softmax does not see.
    assert untrained == {"cameras.encoders.0.encoder.layers.0.attention.key.bias"}


# ── padding and bad input ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("decode", ["flow", "autoregressive"])
def test_what_stands_in_padded_text_and_frames_never_changes_an_output(decode):
    built = policy(n_obs_steps=2, decode=decode)
    batch = make_example_batch(built.config)
    batch["is_pad"][1, 0] = True
    before, trained = predicted(built, batch), built.compute_loss(batch, seed()).loss
    changed = {**batch, "task_tokens": batch["task_tokens"].masked_fill(~batch["task_mask"], -100)}
    for key in (FRONT, WRIST, STATE):
        changed[key] = batch[key].clone()
        changed[key][1, 0] = torch.nan
    torch.testing.assert_close(predicted(built, changed), before, rtol=0, atol=0)
    torch.testing.assert_close(built.compute_loss(changed, seed()).loss, trained, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"decode": "autoregressive", "autoregressive_weight": 0.0}, "autoregressive_weight is 0"),
        ({"flow_weight": 0.0}, "decode 'flow' needs a decoder that is trained, but flow_weight is 0"),
        ({"bins": 1}, "bins=1 must be at least 2"),
        ({"bin_low": 1.0}, "bin_low=1 must be below bin_high=1"),
        ({"temperature": -1.0}, "temperature=-1 must be at least 0"),
        ({"decode": "flwo"}, "Did you mean 'flow'"),
    ],
)
def test_contradictions_are_refused_in_a_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        policy(**options)


def test_actions_must_be_normalised_to_where_the_bins_are():
    assert policy().config.bounded_actions
    assert not policy(autoregressive_weight=0.0).config.bounded_actions
    assert not policy(bin_low=-4.0, bin_high=4.0).config.bounded_actions


def test_actions_must_be_normalised_to_where_diffusion_clips_if_that_decoder_is_trained():
    unbounded_bins = {"bin_low": -4.0, "bin_high": 4.0, "objective": "diffusion"}
    assert policy(**unbounded_bins).config.bounded_actions
    assert not policy(**unbounded_bins, diffusion_clip=4.0).config.bounded_actions
    alone = {**unbounded_bins, "objective": "flow_matching", "flow_weight": 0.0, "decode": "autoregressive"}
    assert not policy(**alone).config.bounded_actions


# ── the policy as a whole ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options",
    [{"decode": "flow"}, {"decode": "flow", "objective": "diffusion"}, {"decode": "autoregressive"}],
    ids=["flow", "diffusion", "autoregressive"],
)
def test_saved_and_loaded_it_predicts_identically(tmp_path, options):
    built = policy(**options)
    fresh = build_policy("flow_ar", built.config.to_dict())
    batch = make_example_batch(built.config)
    save_model(built, str(tmp_path / "model.safetensors"))
    assert not torch.equal(predicted(fresh, batch), predicted(built, batch))
    load_model(fresh, str(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(predicted(fresh, batch), predicted(built, batch))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["flow_matching", "diffusion"])
def test_both_decoders_overfit_one_batch(objective):
    built = policy(image(FRONT), vector(), objective=objective, flow_samples=8, text=None)
    batch = make_example_batch(built.config, batch_size=3)
    optimiser, noise = torch.optim.Adam(built.parameters(), lr=1e-2), seed(1)
    untrained = (predicted(built, batch) - batch["action"]).abs().mean()
    built.train()
    for _ in range(150):
        optimiser.zero_grad()
        built.compute_loss(batch, noise).loss.backward()
        optimiser.step()
    assert (predicted(built, batch) - batch["action"]).abs().mean() < 0.2 * untrained
    bins = built.sample_bins(encode_context(built.embed_context(batch)))
    assert torch.equal(bins, built.bins.encode(batch["action"]).flatten(1))


@pytest.mark.parametrize("size", ["flow_ar", "flow_ar_small"])
def test_the_shipped_options_build(size):
    options = load_yaml(resource_path(f"config/policies/{size}.yaml"), ConfigError)
    pixels = 84 if size.endswith("small") else 224
    inputs = {key: image(key, pixels) for key in (FRONT, WRIST)} | {STATE: vector()}
    with torch.device("meta"):
        counts = build_policy("flow_ar", {"inputs": inputs, "action": ACTION, **options}).parameter_counts()
    assert counts["action_expert"] == (418_656 if size.endswith("small") else 311_464_960)
    assert counts["total"] < (3e6 if size.endswith("small") else 3.4e9)
