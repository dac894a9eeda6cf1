import math

import pytest
import torch
from safetensors.torch import load_model, save_file, save_model

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.objectives import magnitude_weight, smooth_l1, to_spherical
from vla_ros.policies import build_policy
from vla_ros.policies.common.every_frame import chunks_of_every_frame
from vla_ros.policies.examples import make_example_batch

FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
MOTION = ["dx", "dy", "dz"]


def image(key: str, side: int = 32) -> FeatureSpec:
    return FeatureSpec(key, "image", (side, side, 3), "uint8", ("height", "width", "channels"))


def vector(key: str, size: int) -> FeatureSpec:
    return FeatureSpec(key, "vector", (size,), "float32", tuple(f"n{i}" for i in range(size)))


def action(size: int) -> FeatureSpec:
    return FeatureSpec("action", "action", (size,), "float32", ("dx", "dy", "dz", "gripper", "extra")[:size])


def policy(*inputs: FeatureSpec, action_dim: int = 4, seed: int = 0, **options):
    torch.manual_seed(seed)
    inputs = inputs or (image(FRONT), vector(STATE, 4))
    return build_policy("bc", {"inputs": {i.key: i for i in inputs}, "action": action(action_dim), **options})


def spherical(**options):
    return policy(coordinates="spherical", magnitude_names=MOTION, **options)


def recurrent(**options):
    return policy(gru_hidden_dim=16, hidden_dims=[32], pooling="spatial_softmax", n_obs_steps=5, **options)


VARIANTS = {
    "resnet": {"backbone": "resnet_small", "pooling": "spatial_softmax"},
    "vit": {"backbone": "vit_small"},
    "gru": {"gru_hidden_dim": 16, "n_obs_steps": 3},
    "spherical": {"coordinates": "spherical", "magnitude_names": MOTION},
    "sigmoid_tanh": {"coordinates": "spherical", "magnitude_names": MOTION, "magnitude_scaling": "sigmoid_tanh"},
}


# counts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "side", "parameters", "features"),
    [("cnn", 84, 112_864, 64), ("resnet18", 84, 11_176_512, 512), ("vit_b16", 224, 85_798_656, 768)],
)
def test_published_backbones_have_the_published_counts(backbone, side, parameters, features):
    with torch.device("meta"):
        built = policy(image(FRONT, side), vector(STATE, 3), action_dim=3, backbone=backbone)
    head = (features + 3 + 1) * 512 + 513 * 512 + 513 * 3
    assert built.parameter_counts() == {"encoders": parameters, "head": head, "total": parameters + head}


def test_the_walkthroughs_gru_has_128_numbers():
    built = policy(image(FRONT, 84), vector(STATE, 3), action_dim=3, gru_hidden_dim=128)
    assert built.parameter_counts()["memory"] == 3 * 128 * (67 + 128 + 2)
    assert built.head[0].in_features == 128


@pytest.mark.parametrize("name", VARIANTS)
def test_dropout_is_in_the_head_only(name):
    built = policy(**VARIANTS[name])
    rates = [
        (part, module.p)
        for part, module in built.named_modules()
        if isinstance(module, torch.nn.Dropout) and module.p > 0.0
    ]
    assert [part.split(".")[0] for part, _ in rates] == ["head", "head"]
    assert {rate for _, rate in rates} == {0.3}


# every variant ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_predictions_are_bounded_chunks(name):
    built = policy(action_horizon=3, **VARIANTS[name]).eval()
    with torch.no_grad():
        built.head[-1].weight.mul_(100.0)
    actions = built.predict_action_chunk(make_example_batch(built.config)).actions
    assert actions.shape == (2, 3, 4)
    assert actions.abs().max() <= 1.0


@pytest.mark.parametrize("name", VARIANTS)
def test_a_saved_policy_predicts_identically_when_loaded(name, tmp_path):
    saved, loaded = policy(seed=0, **VARIANTS[name]).eval(), policy(seed=1, **VARIANTS[name]).eval()
    observation = make_example_batch(saved.config)
    assert not torch.equal(*(p.predict_action_chunk(observation).actions for p in (saved, loaded)))
    save_model(saved, tmp_path / "model.safetensors")
    load_model(loaded, tmp_path / "model.safetensors", strict=True)
    assert torch.equal(*(p.predict_action_chunk(observation).actions for p in (saved, loaded)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "sigmoid_tanh"])
def test_one_batch_is_overfitted(name):
    built = policy(image(FRONT, 24), vector(STATE, 4), dropout=0.0, action_horizon=2, **VARIANTS[name])
    batch = make_example_batch(built.config, 4)
    batch["action"] *= 0.8
    optimiser = torch.optim.Adam(built.parameters(), 1e-3)
    losses = []
    for _ in range(100):
        output = built.compute_loss(batch)
        losses.append(output.loss.item())
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert losses[-1] < 0.05 * losses[0]
    assert output.terms["l1"] < 0.1


@pytest.mark.parametrize("name", VARIANTS)
def test_content_of_padded_steps_changes_neither_loss_nor_gradient(name):
    built = policy(dropout=0.0, action_horizon=4, **VARIANTS[name])
    batch = make_example_batch(built.config)
    batch["action_is_pad"][:, 2:] = True
    results = []
    for content in (0.0, 1.0, float("nan")):
        batch["action"][:, 2:] = content
        output = built.compute_loss(batch)
        gradients = torch.autograd.grad(output.loss, list(built.parameters()))
        results.append((output.loss.detach(), output.terms["l1"], gradients))
    for loss, term, gradients in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(term, results[0][1])
        assert all(torch.equal(a, b) for a, b in zip(gradients, results[0][2], strict=True))
    batch["action"][:, 2:] = 1.0
    batch["action_is_pad"][:, 2:] = False
    assert not torch.equal(built.compute_loss(batch).loss, results[0][0])


# spherical ----------------------------------------------------------------------------------------------------------


def test_spherical_predictions_are_the_scaled_angles_beside_a_cartesian_gripper():
    built = spherical().eval()
    observation = make_example_batch(built.config)
    bounded = built._raw(observation)[0].tanh()
    expected = torch.stack(
        [
            (bounded[..., 0] + 1) / 2 * math.sqrt(3.0),
            (bounded[..., 1] + 1) / 2 * math.pi,
            bounded[..., 2] * math.pi,
        ],
        dim=-1,
    )
    actions = built.predict_action_chunk(observation).actions
    torch.testing.assert_close(to_spherical(actions[..., :3]), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(actions[..., 3], bounded[..., 3])


def test_spherical_loss_weighs_each_sample_by_its_own_motion():
    built = spherical(dropout=0.0).train()
    batch = make_example_batch(built.config, 3)
    batch["action"][..., :3] *= torch.tensor([0.1, 0.5, 1.0])[:, None, None]
    whole = built.compute_loss(batch).loss
    parts = []
    for index in range(3):
        one = {key: value[index : index + 1] for key, value in batch.items()}
        plain = spherical(dropout=0.0, magnitude_weighting=False)
        plain.load_state_dict(built.state_dict())
        weight = magnitude_weight(one["action"][..., :3])
        assert weight.shape == (1, 1, 1)
        parts.append(plain.compute_loss(one).loss * weight.squeeze())
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_spherical_loss_takes_the_short_way_round():
    built = spherical(dropout=0.0, hidden_dims=[], magnitude_weighting=False)
    batch = make_example_batch(built.config)
    with torch.no_grad():
        built.head[-1].weight.zero_()
        built.head[-1].bias.copy_(torch.tensor([0.0, 0.0, 5.0, 0.0]))  # φ = +π, nearly
    batch["action"][:] = torch.tensor([-math.sqrt(3) / 2, -0.01, 0.0, 0.0])  # φ = −π, nearly
    assert built.compute_loss(batch).loss < 1e-4


def test_a_standing_target_trains_no_angle():
    built = spherical(dropout=0.0, hidden_dims=[])
    batch = make_example_batch(built.config)
    batch["action"][..., :3] = 0.0
    built.compute_loss(batch).loss.backward()
    gradient = built.head[-1].bias.grad
    assert gradient.isfinite().all()
    assert gradient[[0, 3]].all()
    assert not gradient[[1, 2]].any()


@pytest.mark.parametrize(
    "motion",
    [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (1e-30, 0.0, 0.0)],
    ids=["zero", "up", "down", "tiny"],
)
def test_gradients_of_every_weight_are_finite_at_pole_and_zero(motion):
    built = spherical(dropout=0.0)
    batch = make_example_batch(built.config)
    batch["action"][..., :3] = torch.tensor(motion)
    built.compute_loss(batch).loss.backward()
    assert all(p.grad.isfinite().all() for p in built.parameters())


def test_sigmoid_of_tanh_never_stands_still_and_affine_can():
    lengths = {}
    for scaling in ("sigmoid_tanh", "affine"):
        built = spherical(magnitude_scaling=scaling, hidden_dims=[]).eval()
        with torch.no_grad():
            built.head[-1].bias[0] = -100.0
        actions = built.predict_action_chunk(make_example_batch(built.config)).actions
        lengths[scaling] = actions[..., :3].norm(dim=-1).max().item()
    assert lengths["sigmoid_tanh"] == pytest.approx(0.26894, abs=1e-4)
    assert lengths["affine"] == pytest.approx(0.0, abs=1e-6)


def test_three_numbers_need_no_names_and_four_do():
    policy(action_dim=3, coordinates="spherical")
    with pytest.raises(ConfigError, match="a motion of three numbers, got dx, dy, dz, gripper; name its x, y and z"):
        policy(action_dim=4, coordinates="spherical")


def test_cartesian_loss_stays_what_it_was():
    built = policy(dropout=0.0, magnitude_names=MOTION)
    batch = make_example_batch(built.config)
    weight = 1.0 + 2.0 * batch["action"][..., :3].norm(dim=-1, keepdim=True)
    expected = smooth_l1(built(batch), batch["action"], batch["action_is_pad"], weight_BH1=weight)
    torch.testing.assert_close(built.compute_loss(batch).loss, expected)


# memory -------------------------------------------------------------------------------------------------------------


def frame_by_frame(built, observation):
    """Predict on each frame in turn, as a robot does, and return the last output."""
    state = None
    for step in range(built.config.n_obs_steps):
        # only the newest frame of a window with a state may matter
        window = {
            key: torch.full_like(value, 7.0).index_copy(1, torch.tensor([4]), value[:, step, None])
            for key, value in observation.items()
            if key in built.config.inputs
        }
        window["is_pad"] = torch.arange(5).expand(2, 5) < 4 if state is None else torch.zeros(2, 5, dtype=torch.bool)
        output = built.predict_action_chunk(window, state)
        state = output.state
    return output


def test_step_by_step_equals_running_over_the_sequence():
    built = recurrent().eval()
    observation = make_example_batch(built.config)
    together, stepped = built.predict_action_chunk(observation), frame_by_frame(built, observation)
    torch.testing.assert_close(stepped.actions, together.actions, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stepped.state["hidden"], together.state["hidden"], rtol=1e-5, atol=1e-6)


def test_ticks_without_a_prediction_reach_the_memory_all_the_same():
    built = recurrent().eval()
    observation = make_example_batch(built.config)
    together = built.predict_action_chunk(observation)

    def window(first: int, last: int, n_new: int) -> dict[str, torch.Tensor]:
        """Return frames first … last as the newest of a window; the others hold nonsense."""
        n = last - first + 1
        cut = {key: torch.full_like(observation[key], 7.0) for key in built.config.inputs}
        for key, value in cut.items():
            value[:, 5 - n :] = observation[key][:, first : last + 1]
        known = torch.arange(5).expand(2, 5) < 5 - n_new
        return {**cut, "is_pad": torch.arange(5).expand(2, 5) < 5 - n, "is_known": known}

    state = built.predict_action_chunk(window(0, 1, 2)).state
    state = built.predict_action_chunk(window(0, 2, 1), state).state
    again = built.predict_action_chunk(window(0, 2, 0), state)  # nothing new was seen
    assert torch.equal(again.state["hidden"], state["hidden"])
    output = built.predict_action_chunk(window(2, 4, 2), state)
    torch.testing.assert_close(output.actions, together.actions, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.state["hidden"], together.state["hidden"], rtol=1e-5, atol=1e-6)


def test_every_frame_is_trained_on_with_its_own_chunk():
    action_dim, horizon, frames = 2, 3, 4
    steps = torch.arange(20.0)  # an action's number is its step; the window's frames are steps 10 … 13
    batch = {
        "action": steps[13 : 13 + horizon].view(1, -1, 1).expand(1, horizon, action_dim),
        "past_action": steps[10:13].view(1, -1, 1).expand(1, frames - 1, action_dim),
        "action_is_pad": torch.tensor([[False, False, True]]),
        "is_pad": torch.tensor([[True, False, False, False]]),
    }
    every = chunks_of_every_frame(batch)
    assert every["action"][..., 0].tolist() == [[10, 11, 12], [11, 12, 13], [12, 13, 14], [13, 14, 15]]
    assert every["action_is_pad"].tolist() == [[True] * 3, [False] * 3, [False] * 3, [False, False, True]]


def test_loss_of_a_memory_is_the_mean_over_the_frames_as_predicted_one_by_one():
    built = recurrent(dropout=0.0, action_horizon=2).eval()
    batch = make_example_batch(built.config)
    every = chunks_of_every_frame(batch)
    expected = []
    for frame in range(5):
        seen = {key: value.clone() for key, value in batch.items() if key in built.config.inputs}
        window = {key: torch.cat([value[:, : frame + 1]] * 5, dim=1)[:, -5:] for key, value in seen.items()}
        window["is_pad"] = torch.arange(5).expand(2, 5) < 4 - frame
        chunk = {key: value.unflatten(0, (2, 5))[:, frame] for key, value in every.items()}
        expected.append(built.config.action_objective.loss_of(built._raw(window)[0], chunk).loss)
    torch.testing.assert_close(built.compute_loss(batch).loss, torch.stack(expected).mean())


def test_memory_equals_the_gru_of_torch():
    memory = recurrent().memory
    reference = torch.nn.GRU(memory.cell.input_size, 16, batch_first=True)
    reference.load_state_dict({f"{name}_l0": value for name, value in memory.cell.state_dict().items()})
    features = torch.randn(3, 6, memory.cell.input_size)
    torch.testing.assert_close(memory(features), reference(features)[0], rtol=1e-5, atol=1e-6)


def test_memory_reaches_back_to_the_first_frame_and_a_new_episode_forgets():
    built = recurrent().eval()
    observation = make_example_batch(built.config)
    reference = built.predict_action_chunk(observation)
    for frame in range(5):
        changed = {key: value.clone() if key in built.config.inputs else value for key, value in observation.items()}
        changed[STATE][:, frame] += 1.0
        assert not torch.equal(built.predict_action_chunk(changed).actions, reference.actions), frame
    assert not torch.equal(built.predict_action_chunk(observation, reference.state).actions, reference.actions)
    assert torch.equal(built.predict_action_chunk(observation).actions, reference.actions)


def test_frames_before_the_episode_leave_the_memory_empty():
    built = recurrent().eval()
    observation = make_example_batch(built.config)
    observation["is_pad"][:, :2] = True
    reference = built.predict_action_chunk(observation)
    for content in (0.0, 1e6, float("nan")):
        changed = {key: value.clone() if key in built.config.inputs else value for key, value in observation.items()}
        for key in built.config.inputs:
            changed[key][:, :2] = content
        torch.testing.assert_close(built.predict_action_chunk(changed).actions, reference.actions)
        torch.testing.assert_close(built.compute_loss(changed).loss, built.compute_loss(observation).loss)


def test_training_reaches_every_weight_of_the_memory():
    built = recurrent()
    built.compute_loss(make_example_batch(built.config)).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in built.memory.parameters())


def test_a_policy_without_memory_returns_no_state():
    built = policy().eval()
    assert built.predict_action_chunk(make_example_batch(built.config)).state is None


# pretrained weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [False, True])
def test_given_weights_are_read_into_every_camera_before_training(tmp_path, share):
    path = tmp_path / "cnn.safetensors"
    donor = policy(seed=5).encoders.of(FRONT).backbone.state_dict()
    save_file(donor, path)
    built = policy(image(FRONT), image(WRIST), backbone_weights=str(path), share_encoder=share)
    built.load_pretrained()
    for key in (FRONT, WRIST):
        own = built.encoders.of(key).backbone.state_dict()
        assert all(torch.equal(own[name], value) for name, value in donor.items())


def test_a_policy_is_built_where_its_pretrained_weights_are_not_at_hand(tmp_path):
    built = policy(backbone_weights=str(tmp_path / "gone.pth"))
    with pytest.raises(ConfigError, match=r"gone\.pth: no such file"):
        built.load_pretrained()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gru_hidden_dim": -1}, r"gru_hidden_dim=-1 must be at least 0"),
        ({"coordinates": "sperical"}, r"coordinates 'sperical' is not one of .*Did you mean 'spherical'"),
        ({"coordinates": "spherical", "magnitude_names": MOTION, "tanh": False}, r"set tanh to true"),
        ({"magnitude_max": 0.0}, r"magnitude_max=0 must be above 0"),
        ({"backbone": "resnet81"}, r"backbone 'resnet81' is not one of .*Did you mean 'resnet18'"),
        ({"backbone": "vit_b16", "pooling": "spatial_softmax"}, r"needs maps, and this backbone gives one vector"),
    ],
)
def test_bad_option_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence), torch.device("meta"):
        policy(**options)


def test_weights_for_no_camera_are_refused():
    with pytest.raises(ConfigError, match=r"backbone_weights 'w\.pth' are given, but no input is an image"):
        policy(vector(STATE, 3), backbone_weights="w.pth")
