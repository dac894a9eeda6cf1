import pytest
import torch

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.policies import build_policy

FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"


def image(key: str, height: int = 84, width: int = 84) -> FeatureSpec:
    return FeatureSpec(key, "image", (height, width, 3), "uint8", ("height", "width", "channels"))


def vector(key: str, size: int) -> FeatureSpec:
    return FeatureSpec(key, "vector", (size,), "float32", tuple(f"n{i}" for i in range(size)))


def action(size: int = 3) -> FeatureSpec:
    return FeatureSpec("action", "action", (size,), "float32", ("dx", "dy", "dz", "gripper")[:size])


def policy(*inputs: FeatureSpec, action_dim: int = 3, **options):
    return build_policy("bc", {"inputs": {spec.key: spec for spec in inputs}, "action": action(action_dim), **options})


def batch(built, size: int = 2, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    config = built.config
    values = {}
    for key, spec in config.inputs.items():
        shape = (3, *spec.shape[:2]) if spec.kind == "image" else spec.shape
        values[key] = torch.randn(size, config.n_obs_steps, *shape, generator=generator)
    shape = (size, config.action_horizon, config.action_dim)
    values["action"] = torch.rand(shape, generator=generator) * 2 - 1
    values["action_is_pad"] = torch.zeros(shape[:2], dtype=torch.bool)
    return values


def test_published_bc_cnn_has_411875_parameters():
    built = policy(image(FRONT), vector(STATE, 3))
    assert built.parameter_counts() == {"encoders": 112_864, "head": 299_011, "total": 411_875}


def test_published_bc_cnn_has_the_published_head():
    head = [str(layer) for layer in policy(image(FRONT), vector(STATE, 3)).head]
    assert head[0].startswith("Linear(in_features=67, out_features=512")
    assert head[2] == "Dropout(p=0.3, inplace=False)"
    assert head[-1].startswith("Linear(in_features=512, out_features=3")


@pytest.mark.parametrize("pooling", ["average", "spatial_softmax"])
@pytest.mark.parametrize(("frames", "horizon"), [(1, 1), (2, 8)])
@pytest.mark.parametrize("share", [False, True])
def test_predictions_have_the_shape_of_a_chunk(pooling, frames, horizon, share):
    options = {"pooling": pooling, "n_obs_steps": frames, "action_horizon": horizon, "share_encoder": share}
    built = policy(image(FRONT), image(WRIST), vector(STATE, 4), action_dim=4, **options).eval()
    output = built.predict_action_chunk(batch(built))
    assert output.actions.shape == (2, horizon, 4)
    assert output.state is None
    assert output.actions.abs().max() <= 1.0


def test_cameras_share_one_encoder_or_have_one_each():
    separate = policy(image(FRONT), image(WRIST)).parameter_counts()["encoders"]
    shared = policy(image(FRONT), image(WRIST), share_encoder=True).parameter_counts()["encoders"]
    assert (separate, shared) == (2 * 112_864, 112_864)


def test_cameras_of_different_sizes_need_encoders_of_their_own():
    built = policy(image(FRONT), image(WRIST, 48, 64)).eval()
    assert built.predict_action_chunk(batch(built)).actions.shape == (2, 1, 3)
    with pytest.raises(ConfigError, match="share_encoder needs cameras of one image size"):
        policy(image(FRONT), image(WRIST, 48, 64), share_encoder=True)


def test_state_alone_is_enough_to_see():
    built = policy(vector(STATE, 4), hidden_dims=[8]).eval()
    assert built.predict_action_chunk(batch(built)).actions.shape == (2, 1, 3)


def test_every_input_and_every_frame_matters():
    built = policy(image(FRONT), image(WRIST), vector(STATE, 4), n_obs_steps=2, pooling="spatial_softmax").eval()
    observation = batch(built)
    reference = built.predict_action_chunk(observation).actions
    for key in (FRONT, WRIST, STATE):
        for frame in range(2):
            changed = {name: value.clone() for name, value in observation.items()}
            changed[key][:, frame] = torch.randn_like(changed[key][:, frame])
            assert not torch.equal(built.predict_action_chunk(changed).actions, reference), (key, frame)


def test_samples_of_a_batch_do_not_see_each_other():
    built = policy(image(FRONT), vector(STATE, 3)).eval()
    both = batch(built)
    first = {key: value[:1] for key, value in both.items()}
    together, alone = built.predict_action_chunk(both).actions[:1], built.predict_action_chunk(first).actions
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_unbounded_policy_reaches_beyond_one():
    built = policy(vector(STATE, 3), tanh=False, dropout=0.0).eval()
    observation = batch(built)
    observation[STATE] *= 1e3
    assert built.predict_action_chunk(observation).actions.abs().max() > 1.0
    assert not built.config.bounded_actions


def test_padded_steps_change_no_loss():
    built = policy(vector(STATE, 3), action_horizon=4, dropout=0.0)
    values = batch(built)
    values["action_is_pad"][:, 2:] = True
    loss = built.compute_loss(values).loss
    values["action"][:, 2:] = float("nan")
    assert built.compute_loss(values).loss == loss


def test_gripper_is_left_out_of_the_magnitude_when_motion_is_named():
    options = {"action_dim": 4, "dropout": 0.0, "hidden_dims": []}
    everything, motion = (policy(vector(STATE, 3), magnitude_names=n, **options) for n in ([], ["dx", "dy", "dz"]))
    motion.load_state_dict(everything.state_dict())
    values = batch(everything)
    values["action"][..., 3] = 0.0
    # the length of three numbers, and of the same with a zero: equal but for the rounding of sums of other lengths
    torch.testing.assert_close(motion.compute_loss(values).loss, everything.compute_loss(values).loss)
    values["action"][..., 3] = 1.0
    assert motion.compute_loss(values).loss < everything.compute_loss(values).loss


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["smooth_l1", "mse"])
def test_one_batch_is_overfitted(loss):
    torch.manual_seed(0)
    built = policy(
        image(FRONT, 24, 24), vector(STATE, 3), objective=loss, dropout=0.0, pooling="spatial_softmax", action_horizon=2
    )
    values = batch(built, size=4)
    values["action"] *= 0.8
    optimiser = torch.optim.Adam(built.parameters(), 1e-3)
    first = None
    for _ in range(120):
        output = built.compute_loss(values)
        first = first if first is not None else output.loss.item()
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert output.loss.item() < 0.01 * first


def test_missing_and_misshapen_inputs_are_named_together():
    built = policy(image(FRONT), vector(STATE, 3))
    with pytest.raises(ObservationError, match=r"'observation.images.front' is missing.*'observation.state' must be"):
        built.predict_action_chunk({STATE: torch.zeros(2, 1, 4)})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dropot": 0.1}, r"dropot is not a field here; .*Did you mean 'dropout'\?"),
        ({"dropout": 1.0}, r"dropout=1 must be at least 0 and below 1"),
        ({"dropout": "much"}, r"dropout expected float, got 'much'"),
        ({"pooling": "averge"}, r"pooling 'averge' is not one of average, spatial_softmax.*Did you mean 'average'"),
        ({"backbone": "cn"}, r"backbone 'cn' is not one of .*Did you mean 'cnn'"),
        ({"n_action_steps": 9, "action_horizon": 8}, r"n_action_steps=9 exceeds action_horizon=8"),
        ({"hidden_dims": [0]}, r"hidden_dims=\[0\] must all be at least 1"),
        ({"magnitude_names": ["dw"]}, r"magnitude_names: 'dw' is not a number of the action: dx, dy, dz"),
    ],
)
def test_bad_option_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        policy(image(FRONT), vector(STATE, 3), **options)


def test_points_are_refused():
    points = FeatureSpec("observation.points.lidar", "points", (360, 3), "float32", ("x", "y", "z"))
    with pytest.raises(ConfigError, match="bc sees images and vectors only"):
        policy(points)
