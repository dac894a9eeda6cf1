import pytest
import torch
from safetensors.torch import load_model, save_file, save_model

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.networks import sine_positions
from vla_ros.objectives import l1, magnitude_weight, smooth_l1
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch

FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
MOTION = ["dx", "dy", "dz"]
TINY = {"width": 32, "n_heads": 4, "mlp_dim": 48, "n_encoder_layers": 2, "n_decoder_layers": 2}


def image(key: str, side: int = 32) -> FeatureSpec:
    return FeatureSpec(key, "image", (side, side, 3), "uint8", ("height", "width", "channels"))


def vector(key: str, size: int) -> FeatureSpec:
    return FeatureSpec(key, "vector", (size,), "float32", tuple(f"n{i}" for i in range(size)))


def action(size: int = 4) -> FeatureSpec:
    return FeatureSpec("action", "action", (size,), "float32", ("dx", "dy", "dz", "gripper")[:size])


def policy(*inputs: FeatureSpec, seed: int = 0, sizes=TINY, action_dim: int = 4, **options):
    torch.manual_seed(seed)
    inputs = inputs or (image(FRONT), image(WRIST), vector(STATE, 4))
    config = {"inputs": {i.key: i for i in inputs}, "action": action(action_dim), "action_horizon": 5}
    if not options.pop("published", False):
        return build_policy("act_walkthrough", {**config, **sizes, **options})
    if sizes is TINY:
        config |= {"latent_dim": 6, "backbone": "cnn", "share_encoder": False}
    return build_policy("act", {**config, **sizes, **options})


VARIANTS = {
    "walkthrough": {"n_obs_steps": 3, "head_dims": [32]},
    "spherical": {"coordinates": "spherical", "magnitude_names": MOTION, "head_dims": [32]},
    "cvae": {"published": True},
    "cvae_shared": {
        "published": True,
        "share_encoder": True,
        "tanh": True,
        "magnitude_weighting": True,
        "objective": "mse",
    },
}


# sizes --------------------------------------------------------------------------------------------------------------


def test_walkthrough_has_the_published_counts():
    with torch.device("meta"):
        built = policy(image(FRONT, 84), vector(STATE, 3), sizes={}, action_dim=3, n_obs_steps=4, action_horizon=16)
    counts = built.parameter_counts()
    assert counts["encoder"] == 12_609_536
    assert counts["decoder"] == 16_816_128
    assert counts["encoders"] == 112_864
    assert counts["tokens"] == 65 * 512 + 4 * 512
    assert counts["head"] == 513 * 2048 + 2049 * 1024 + 1025 * 3
    assert counts["own"] == 16 * 512


def test_published_cvae_has_the_paper_s_parts():
    published = {"backbone": "resnet18_frozen_norm", "share_encoder": True, "mlp_dim": 3200, "n_decoder_layers": 7}
    with torch.device("meta"):
        built = policy(
            image(FRONT, 84), vector(STATE, 14), sizes={}, published=True, action_horizon=100, action_dim=4, **published
        )
    layer = 4 * 513 * 512 + 512 * 3200 + 3200 + 3200 * 512 + 512 + 2 * 1024
    counts = built.parameter_counts()
    assert counts["encoders"] == 11_176_512
    assert counts["encoder"] == 4 * layer
    assert counts["latent"] == 4 * layer + 512 + 15 * 512 + 5 * 512 + 513 * 64
    assert counts["decoder"] == 7 * (layer + 4 * 513 * 512 + 1024) + 1024
    assert counts["tokens"] == 33 * 512 + 15 * 512 + 513 * 512 + 2 * 512
    assert counts["head"] == 513 * 4


# every variant ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_predictions_are_chunks_and_always_the_same(name):
    built = policy(**VARIANTS[name]).eval()
    observation = make_example_batch(built.config, 3)
    first, second = (built.predict_action_chunk(observation, generator=torch.Generator()) for _ in range(2))
    assert first.actions.shape == (3, 5, 4)
    assert first.state is None
    assert torch.equal(first.actions, second.actions)
    assert built.config.bounded_actions == (name != "cvae")


@pytest.mark.parametrize("name", VARIANTS)
def test_actions_reach_no_prediction(name):
    built = policy(**VARIANTS[name]).eval()
    batch = make_example_batch(built.config)
    without = {key: value for key, value in batch.items() if not key.startswith("action")}
    assert torch.equal(built.predict_action_chunk(batch).actions, built.predict_action_chunk(without).actions)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_input_matters(name):
    built = policy(**VARIANTS[name]).eval()
    observation = make_example_batch(built.config)
    reference = built.predict_action_chunk(observation).actions
    for key in built.config.inputs:
        for frame in range(built.config.n_obs_steps):
            changed = {name: value.clone() for name, value in observation.items() if name in built.config.inputs}
            changed[key][:, frame] += 1.0 + torch.randn_like(changed[key][:, frame])
            assert not torch.equal(built.predict_action_chunk(changed).actions, reference), (key, frame)


@pytest.mark.parametrize("name", VARIANTS)
def test_samples_of_a_batch_do_not_see_each_other(name):
    built = policy(**VARIANTS[name]).eval()
    both = make_example_batch(built.config)
    first = {key: value[:1] for key, value in both.items()}
    torch.testing.assert_close(
        built.predict_action_chunk(both).actions[:1], built.predict_action_chunk(first).actions, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_content_of_padded_steps_changes_neither_loss_nor_gradient(name):
    built = policy(dropout=0.0, **VARIANTS[name])
    batch = make_example_batch(built.config)
    batch["action_is_pad"][:, 3:] = True
    results = []
    for content in (0.0, 1.0, float("nan")):
        batch["action"][:, 3:] = content
        output = built.compute_loss(batch, torch.Generator().manual_seed(0))
        trained = [p for p in built.parameters() if p.requires_grad]
        results.append((output, torch.autograd.grad(output.loss, trained)))
    for output, gradients in results[1:]:
        assert torch.equal(output.loss, results[0][0].loss)
        assert all(torch.equal(output.terms[term], value) for term, value in results[0][0].terms.items())
        assert all(torch.equal(a, b) for a, b in zip(gradients, results[0][1], strict=True))
    batch["action"][:, 3:] = 1.0
    batch["action_is_pad"][:, 3:] = False
    assert built.compute_loss(batch, torch.Generator().manual_seed(0)).loss != results[0][0].loss


@pytest.mark.parametrize("name", VARIANTS)
def test_a_sample_of_padding_alone_is_finite(name):
    built = policy(dropout=0.0, **VARIANTS[name])
    batch = make_example_batch(built.config)
    batch["action_is_pad"][0] = True
    output = built.compute_loss(batch, torch.Generator().manual_seed(0))
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in built.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["walkthrough", "cvae"])
def test_training_reaches_every_weight_that_a_loss_depends_on(name):
    built = policy(**VARIANTS[name])
    built.compute_loss(make_example_batch(built.config), torch.Generator().manual_seed(0)).loss.backward()
    # Float32 rounds what cancels to 1e-7 and less; whatever else is trained gets 1e-4 and more.
    without = {part for part, p in built.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-5}
    # a softmax does not see what is added to all its logits
    unseen = {part for part, _ in built.named_parameters() if part.endswith("key.bias")}
    if built.config.cvae:
        # the published decoder begins with zeros: its first layer finds nothing to attend to among them
        unseen |= {f"decoder.layers.0.attention.{part}.weight" for part in ("query", "key", "value", "output")}
        unseen |= {"decoder.layers.0.attention.query.bias", "decoder.layers.0.attention_norm.weight"}
    assert without == unseen


@pytest.mark.parametrize("name", VARIANTS)
def test_a_saved_policy_predicts_identically_when_loaded(name, tmp_path):
    saved, loaded = policy(seed=0, **VARIANTS[name]).eval(), policy(seed=1, **VARIANTS[name]).eval()
    observation = make_example_batch(saved.config)
    assert not torch.equal(*(p.predict_action_chunk(observation).actions for p in (saved, loaded)))
    save_model(saved, tmp_path / "model.safetensors")
    load_model(loaded, tmp_path / "model.safetensors", strict=True)
    assert torch.equal(*(p.predict_action_chunk(observation).actions for p in (saved, loaded)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["walkthrough", "spherical", "cvae"])
def test_one_batch_is_overfitted(name):
    built = policy(image(FRONT, 24), vector(STATE, 4), dropout=0.0, action_horizon=3, **VARIANTS[name])
    batch = make_example_batch(built.config, 4)
    batch["action"] *= 0.8
    optimiser, generator = torch.optim.Adam(built.parameters(), 2e-3), torch.Generator().manual_seed(0)
    for _ in range(120):
        output = built.compute_loss(batch, generator)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    error = l1(built.eval()(batch), batch["action"], batch["action_is_pad"])
    assert error < 0.1 * batch["action"].abs().mean()


@pytest.mark.parametrize("inputs", [(image(FRONT),), (vector(STATE, 3),), (image(FRONT), image(WRIST))])
@pytest.mark.parametrize("cvae", [False, True])
def test_any_of_the_inputs_may_be_absent(inputs, cvae):
    built = policy(*inputs, cvae=cvae)
    batch = make_example_batch(built.config)
    built.compute_loss(batch, torch.Generator()).loss.backward()
    assert built.eval().predict_action_chunk(batch).actions.shape == (2, 5, 4)


# the walkthrough's --------------------------------------------------------------------------------------------------


def test_a_token_is_the_sum_of_image_and_state_and_its_position_is_a_sine():
    built = policy(n_obs_steps=3).eval()
    observation = make_example_batch(built.config)
    images = torch.cat([built.encoders.encode(key, observation[key]) for key in (FRONT, WRIST)], dim=-1)
    expected = built.tokens.visual(images) + built.tokens.state(observation[STATE])
    encoded = built._encode(observation)
    torch.testing.assert_close(encoded.tokens.tokens_BLD, expected)
    torch.testing.assert_close(encoded.memory_BLD, built.encoder(expected + sine_positions(3, 32)))


def test_walkthrough_loss_is_weighted_smooth_l1_of_a_bounded_chunk():
    built = policy(dropout=0.0, magnitude_names=MOTION)
    batch = make_example_batch(built.config)
    batch["action_is_pad"][0, 3:] = True
    predicted = built(batch)
    assert predicted.abs().max() < 1.0
    weight = magnitude_weight(batch["action"][..., :3])
    expected = smooth_l1(predicted, batch["action"], batch["action_is_pad"], weight_BH1=weight)
    torch.testing.assert_close(built.compute_loss(batch).loss, expected)


def test_frames_before_the_episode_change_nothing():
    built = policy(dropout=0.0, n_obs_steps=3)
    observation = make_example_batch(built.config)
    observation["is_pad"][:, :2] = True
    reference, loss = built.predict_action_chunk(observation).actions, built.compute_loss(observation).loss
    for content in (0.0, 1e4, float("nan")):
        changed = dict(observation)
        for key in built.config.inputs:
            changed[key] = observation[key].clone()
            changed[key][:, :2] = content
        torch.testing.assert_close(built.predict_action_chunk(changed).actions, reference)
        torch.testing.assert_close(built.compute_loss(changed).loss, loss)


def test_order_of_the_frames_matters():
    built = policy(n_obs_steps=3).eval()
    observation = make_example_batch(built.config)
    turned = {key: observation[key].flip(1) for key in built.config.inputs}
    assert not torch.allclose(*(built.predict_action_chunk(o).actions for o in (observation, turned)), atol=1e-4)


# the CVAE -----------------------------------------------------------------------------------------------------------


def test_cvae_alone_gives_the_published_objective():
    built = policy(published=True, dropout=0.0)
    batch = make_example_batch(built.config)
    batch["action_is_pad"][0, 3:] = True
    output = built.compute_loss(batch, torch.Generator().manual_seed(3))
    mean, log_variance = built.latent(batch["action"], batch["action_is_pad"], batch[STATE][:, -1])
    noise = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    predicted = built._raw(batch, mean + (log_variance / 2).exp() * noise)
    kept = ~batch["action_is_pad"]
    error = (predicted - batch["action"]).abs()[kept].mean()  # of valid entries only
    kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1).mean()
    torch.testing.assert_close(output.loss, error + 10.0 * kl)
    torch.testing.assert_close(output.terms["kl"], kl.detach())
    torch.testing.assert_close(output.terms["l1"], error.detach())
    assert not built.config.bounded_actions


def test_prediction_uses_the_mean_of_the_prior():
    built = policy(published=True).eval()
    observation = make_example_batch(built.config)
    torch.testing.assert_close(
        built.predict_action_chunk(observation).actions, built._raw(observation, torch.zeros(2, 6))
    )
    other = built._raw(observation, torch.ones(2, 6))
    assert not torch.allclose(built.predict_action_chunk(observation).actions, other, atol=1e-3)


def test_latent_noise_comes_from_the_generator():
    built = policy(published=True, dropout=0.0)
    batch = make_example_batch(built.config)
    same, again, other = (built.compute_loss(batch, torch.Generator().manual_seed(s)).loss for s in (1, 1, 2))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_padded_actions_are_hidden_from_the_latent():
    built = policy(published=True).eval()
    actions, state = torch.randn(2, 5, 4), torch.randn(2, 4)
    is_pad = torch.tensor([[False, False, True, True, True], [False] * 5])
    mean, _ = built.latent(actions, is_pad, state)
    changed = actions.clone()
    changed[0, 2:] = 9.0
    torch.testing.assert_close(built.latent(changed, is_pad, state)[0], mean)
    changed[1, 2] = 9.0
    assert not torch.allclose(built.latent(changed, is_pad, state)[0][1], mean[1], atol=1e-3)


def test_a_camera_gives_a_token_per_pixel_of_its_maps_and_latent_and_state_one_each():
    built = policy(published=True)
    observation = make_example_batch(built.config)
    tokens = built._encode(observation).tokens
    assert tokens.tokens_BLD.shape == (2, 2 + 2 * 5 * 5, 32)
    assert tokens.segments == (("latent", 1), ("state", 1), (FRONT, 25), (WRIST, 25))
    assert built.tokens.positions().shape == (52, 32)
    assert torch.equal(built.tokens.positions()[2:27], built.tokens.positions()[27:])


def test_all_decoder_layers_shape_the_actions():
    built = policy(published=True).eval()
    observation = make_example_batch(built.config)
    reference = built.predict_action_chunk(observation).actions
    for layer in built.decoder.layers:
        kept = layer.mlp.outer.bias.data.clone()
        layer.mlp.outer.bias.data += torch.randn_like(kept)
        assert not torch.allclose(built.predict_action_chunk(observation).actions, reference, atol=1e-3)
        layer.mlp.outer.bias.data = kept


# options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cvae", [False, True])
def test_given_weights_are_read_into_every_camera(tmp_path, cvae):
    donor = policy(seed=5, published=True).encoders.of(FRONT).state_dict()
    save_file(donor, tmp_path / "cnn.safetensors")
    built = policy(published=cvae, backbone_weights=str(tmp_path / "cnn.safetensors"))
    built.load_pretrained()
    for key in (FRONT, WRIST):
        encoder = built.encoders.of(key)
        own = (encoder if cvae else encoder.backbone).state_dict()
        assert all(torch.equal(own[name], value) for name, value in donor.items())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"published": True, "pooling": "spatial_softmax"}, r"means something only with image_tokens 'frames'"),
        ({"width": 30}, r"n_heads=4 must divide width=30"),
        ({"kl_weight": -1.0}, r"kl_weight=-1 must be at least 0"),
        ({"latent_dim": 0}, r"latent_dim=0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1 must be at least 0 and below 1"),
        ({"head_dims": [0]}, r"head_dims=\[0\] must all be at least 1"),
        ({"objective": "l3"}, r"objective 'l3' is not one of"),
        ({"chunk_size": 8}, r"chunk_size is not a field here"),
        ({"published": True, "coordinates": "spherical", "magnitude_names": MOTION}, r"set tanh to true"),
    ],
)
def test_bad_option_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        policy(**options)


def test_missing_inputs_are_refused():
    with pytest.raises(ObservationError, match=rf"'{FRONT}' is missing"):
        policy().predict_action_chunk({STATE: torch.zeros(2, 1, 4)})


# options one by one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cvae", [False, True])
@pytest.mark.parametrize("image_tokens", ["maps", "frames"])
@pytest.mark.parametrize("positions", ["every_layer", "input"])
@pytest.mark.parametrize("frames", [1, 3])
def test_latent_image_tokens_positions_and_frames_are_chosen_one_by_one(cvae, image_tokens, positions, frames):
    options = {"cvae": cvae, "image_tokens": image_tokens, "positions": positions, "n_obs_steps": frames}
    built = policy(published=True, dropout=0.0, **options, **({"latent_dim": 6} if cvae else {"latent_dim": 32}))
    batch = make_example_batch(built.config)
    if frames > 1:
        batch["is_pad"][0, :2] = True
    output = built.compute_loss(batch, torch.Generator().manual_seed(0))
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters() if p.requires_grad)
    assert ("kl" in output.terms) == cvae
    before = built.eval().predict_action_chunk(batch).actions
    for key in built.config.inputs:  # frames before the episode's begin change nothing, the others do
        changed = {name: value.clone() if torch.is_tensor(value) else value for name, value in batch.items()}
        changed[key][0, : 2 if frames > 1 else 0] = 9.0
        changed[key][1] += 1.0
        after = built.predict_action_chunk(changed).actions
        torch.testing.assert_close(after[0], before[0])
        assert not torch.allclose(after[1], before[1], atol=1e-5)
