import pytest
import torch
import yaml
from safetensors.torch import load_model, save_model

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.data_types.resources import resource_path
from vla_ros.networks.vision.efficientnet import efficientnet_b3
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch

FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper", "base_x", "base_y", "base_yaw", "mode")
SMALL = {
    "text": {"kind": "sentence_embedding", "source": "tiny", "width": 6},
    "trunk": "small_conv",
    "grid": None,
    "token_dim": 16,
    "tokens_per_image": 3,
    "learner_dim": 8,
    "depth": 2,
    "n_heads": 2,
    "mlp_dim": 16,
    "dropout": 0.0,
    "bins": 16,
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def image(key: str, height: int = 24, width: int = 24) -> FeatureSpec:
    return FeatureSpec(key, "image", (height, width, 3), "uint8", ("height", "width", "channels"))


def vector(size: int = 4) -> FeatureSpec:
    return FeatureSpec(STATE, "vector", (size,), "float32", tuple(f"n{i}" for i in range(size)))


def action(size: int = 11) -> FeatureSpec:
    return FeatureSpec("action", "action", (size,), "float32", NAMES[:size])


def policy(*inputs: FeatureSpec, action_dim: int = 4, **options):
    inputs = inputs or (image(FRONT),)
    config = {"inputs": {spec.key: spec for spec in inputs}, "action": action(action_dim), **SMALL, **options}
    built = build_policy("rt1", config)
    for name, parameter in built.named_parameters():
        if ".films." in name:  # the instruction has no say before training
            parameter.data.normal_(std=0.3)
    return built.eval()


def published(**options):
    with torch.device("meta"):
        return build_policy("rt1", {"inputs": {FRONT: image(FRONT, 300, 300)}, "action": action(), **options})


class Episode:
    """A robot's history of random frames, as the runtime hands it over tick by tick."""

    def __init__(self, built, batch_size: int = 1) -> None:
        self.config, self.size = built.config, batch_size
        self.frames = [make_example_batch(built.config, batch_size, seed=seed) for seed in range(20)]

    def observation(self, tick: int) -> dict:
        steps = self.config.n_obs_steps
        window = [self.frames[max(k, 0)] for k in range(tick - steps + 1, tick + 1)]
        result = {key: torch.stack([frame[key][:, -1] for frame in window], 1) for key in self.config.inputs}
        result["is_pad"] = (torch.arange(steps) < steps - 1 - tick).expand(self.size, steps)
        return {**result, "task_embedding": self.frames[0]["task_embedding"]}


@pytest.fixture
def passes(monkeypatch):
    """How many images went through a trunk at each of its passes."""
    counts = []
    from vla_ros.networks.vision.film_trunks import FilmConvStack

    forward = FilmConvStack.forward

    def counted(self, images_N3hw, condition_NE):
        counts.append(len(images_N3hw))
        return forward(self, images_N3hw, condition_NE)

    monkeypatch.setattr(FilmConvStack, "forward", counted)
    return counts


def test_the_published_size_has_32525216_parameters():
    counts = published().parameter_counts()
    assert counts == {
        "language": 384 * 512 + 512,
        "images": 14_036_640,
        "transformer": 16_846_848,
        "head": 11 * (512 * 256 + 256),
        "total": 32_525_216,
    }


def test_six_frames_become_48_tokens():
    built = published()
    assert built.tokens_per_frame == 8
    assert built.transformer.positions_LD.shape == (48, 512)
    assert len(built.transformer.layers) == 8
    assert all(layer.options.norm_first for layer in built.transformer.layers)


def test_the_options_file_of_the_published_size_is_the_published_size():
    options = yaml.safe_load(resource_path("config/policies/rt1.yaml").read_text())
    assert published(**options).config == published().config


@pytest.mark.slow
@torch.no_grad()
def test_the_published_network_runs_on_its_images():
    built = build_policy("rt1", {"inputs": {FRONT: image(FRONT, 300, 300)}, "action": action()}).eval()
    observation = make_example_batch(built.config, 1)
    encoder = built.images.of(FRONT)
    places = encoder.places(observation[FRONT][:, 0], built.condition(observation))
    assert places.shape == (1, 81, 512)
    assert encoder.learner(places).shape == (1, 8, 512)
    assert built(observation).shape == (1, 1, 11, 256)
    assert built.predict_action_chunk(observation).actions.shape == (1, 1, 11)


def test_the_small_options_file_sees_two_cameras_and_proprioception():
    options = yaml.safe_load(resource_path("config/policies/rt1_small.yaml").read_text())
    built = policy(image(FRONT, 84, 84), image(WRIST, 84, 84), vector(), **options)
    assert built.tokens_per_frame == 8 + 8 + 1
    assert built.predict_action_chunk(make_example_batch(built.config)).actions.shape == (2, 8, 4)


@pytest.mark.parametrize("inputs", [(image(FRONT),), (image(FRONT), image(WRIST), vector())])
@pytest.mark.parametrize("n_obs_steps", [1, 2, 6])
def test_cached_frames_give_the_actions_of_uncached_ones(inputs, n_obs_steps, passes):
    built = policy(*inputs, n_obs_steps=n_obs_steps)
    episode, state, cameras = Episode(built), None, len(built.config.image_keys)
    for tick in range(9):
        observation = episode.observation(tick)
        passes.clear()
        output = built.predict_action_chunk(observation, state)
        assert passes == [1] * cameras, tick
        plain = built(observation)
        cached = built.logits(output.state["tokens"], observation, built._sources(observation))
        torch.testing.assert_close(cached, plain, rtol=1e-4, atol=1e-5)
        assert torch.equal(output.actions, built.bins.decode(plain.argmax(-1)))
        state = output.state


def test_a_cache_of_efficientnet_equals_encoding_anew():
    options = {"trunk": "efficientnet_b3", "grid": 2, "n_obs_steps": 3}
    built = policy(image(FRONT, 32, 32), **options)
    episode, state = Episode(built), None
    for tick in range(5):
        observation = episode.observation(tick)
        output = built.predict_action_chunk(observation, state)
        torch.testing.assert_close(
            output.state["tokens"],
            built.frame_tokens({FRONT: observation[FRONT]}, built.condition(observation)),
            rtol=1e-4,
            atol=1e-4,
        )
        state = output.state


def test_ticks_left_out_never_attach_tokens_to_another_frame(passes):
    built = policy(n_obs_steps=4)
    episode, state = Episode(built), None
    new_frames = []
    for tick in (0, 1, 4, 4, 12, 2):
        observation = episode.observation(tick)
        passes.clear()
        output = built.predict_action_chunk(observation, state)
        new_frames.append(sum(passes))
        plain = built(observation)
        assert torch.equal(output.actions, built.bins.decode(plain.argmax(-1))), tick
        state = output.state
    assert new_frames == [1, 1, 3, 0, 4, 3]


def test_another_instruction_or_batch_is_encoded_anew(passes):
    built = policy(n_obs_steps=4)
    observation = Episode(built, 2).observation(5)
    state = built.predict_action_chunk(observation).state
    passes.clear()
    other = {**observation, "task_embedding": observation["task_embedding"].flip(1)}
    built.predict_action_chunk(other, state)
    built.predict_action_chunk({key: value[:1] for key, value in observation.items()}, state)
    built.predict_action_chunk(observation, state)
    assert passes == [8, 4]


def test_fewer_frames_repeat_the_first_whatever_stands_before_it():
    built = policy(image(FRONT), vector(), n_obs_steps=4)
    episode = Episode(built)
    observation = episode.observation(1)
    before = built(observation)
    for key in (FRONT, STATE):
        observation[key] = observation[key].clone()
        assert torch.equal(observation[key][:, 0], observation[key][:, 2])
        observation[key][:, :2] = float("nan")
    assert torch.equal(built(observation), before)
    assert built.predict_action_chunk(observation).actions.isfinite().all()


def test_the_instruction_matters_through_film_alone():
    built = policy()
    observation = make_example_batch(built.config)
    other = {**observation, "task_embedding": observation["task_embedding"].flip(1)}
    assert not torch.allclose(built(observation), built(other))
    for name, parameter in built.named_parameters():
        if ".films." in name:
            parameter.data.zero_()
    assert torch.equal(built(observation), built(other))


def test_every_input_and_every_frame_matters():
    built = policy(image(FRONT), image(WRIST), vector(), n_obs_steps=3)
    observation = make_example_batch(built.config)
    before = built(observation)
    for key in (FRONT, WRIST, STATE):
        for frame in range(3):
            changed = dict(observation, **{key: observation[key].clone()})
            changed[key][:, frame] = torch.randn_like(changed[key][:, frame])
            assert not torch.equal(built(changed), before), (key, frame)


def test_cameras_share_one_encoder_or_have_one_each():
    one, shared, separate = (
        policy(*cameras, share_encoder=share).parameter_counts()["images"]
        for cameras, share in (
            ((image(FRONT),), True),
            ((image(FRONT), image(WRIST)), True),
            ((image(FRONT), image(WRIST)), False),
        )
    )
    assert (shared, separate) == (one, 2 * one)
    with pytest.raises(ConfigError, match="share_encoder needs cameras of one image size"):
        policy(image(FRONT), image(WRIST, 16, 16))


def test_a_policy_without_text_is_conditioned_by_nothing():
    built = policy(text=None)
    observation = make_example_batch(built.config)
    assert built.predict_action_chunk(observation).actions.shape == (2, 1, 4)
    assert "condition" not in built.predict_action_chunk(observation).state


def test_actions_are_values_of_their_ranges_and_categories():
    built = policy(action_dim=11, ranges={"x": (-0.5, 2.0)}, categories={"mode": (0.0, 1.0, 2.0)}, action_horizon=2)
    built.head.bias.data.zero_().view(2, 11, 16)[..., 15] = 100.0
    actions = built.predict_action_chunk(make_example_batch(built.config)).actions
    assert actions.shape == (2, 2, 11)
    assert (actions[..., 0] == 2.0).all()
    assert (actions[..., 1:10] == 1.0).all()
    assert torch.isin(actions[..., 10], torch.tensor([0.0, 1.0, 2.0])).all()


def test_numbers_without_a_range_of_their_own_must_be_normalised_to_that_of_the_bins():
    assert policy().config.bounded_actions
    assert policy(action_dim=11, ranges={"x": (-0.5, 2.0)}).config.bounded_actions
    all_ranges = dict.fromkeys(policy(action_dim=11).config.action.names, (-3.0, 3.0))
    mode = all_ranges.popitem()[0]
    built = policy(action_dim=11, ranges=all_ranges, categories={mode: (0.0, 1.0)})
    assert not built.config.bounded_actions


def test_padded_steps_change_no_loss():
    built = policy(action_horizon=4)
    batch = make_example_batch(built.config)
    batch["action_is_pad"][:, 2:] = True
    reference = built.compute_loss(batch).loss
    batch["action"] = batch["action"].clone()
    batch["action"][:, 2:] = float("nan")
    output = built.compute_loss(batch)
    assert output.loss == reference
    assert output.terms["l1"].isfinite()
    batch["action_is_pad"][:] = True
    assert built.compute_loss(batch).loss == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learner_weights": "softmax", "action_horizon": 2},
        {"text": None, "tokens_per_image": 0, "learner_dim": 64, "grid": 2},  # 64: its default, without a learner
    ],
    ids=["sigmoid", "softmax", "no_text"],
)
@pytest.mark.slow
def test_one_batch_is_overfitted(options):
    built = policy(image(FRONT), vector(), n_obs_steps=2, **options).train()
    batch = make_example_batch(built.config, batch_size=4)
    optimiser = torch.optim.Adam(built.parameters(), 3e-3)
    first = None
    for _ in range(120):
        output = built.compute_loss(batch)
        first = first if first is not None else output.loss.item()
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert output.loss.item() < 0.02 * first
    bins = built.bins.encode(batch["action"])
    assert torch.equal(built.eval().predict_action_chunk(batch).actions, built.bins.decode(bins))


def test_saved_and_loaded_policy_predicts_identical_actions(tmp_path):
    built, again = policy(), policy()
    save_model(built, str(tmp_path / "model.safetensors"))
    load_model(again, tmp_path / "model.safetensors", strict=True)
    observation = make_example_batch(built.config)
    assert torch.equal(built(observation), again(observation))
    assert build_policy("rt1", built.config.to_dict()).config == built.config


def test_pretrained_weights_are_taken_up_and_leave_the_rest(tmp_path):
    weights = efficientnet_b3((32, 32)).state_dict()
    weights["classifier.1.weight"] = torch.zeros(1000, 1536)  # torchvision's file holds it too
    torch.save(weights, tmp_path / "b3.pth")
    options = {"trunk": "efficientnet_b3", "grid": 2, "trunk_weights": str(tmp_path / "b3.pth"), "share_encoder": False}
    built = policy(image(FRONT, 32, 32), image(WRIST, 32, 32), **options)
    built.load_pretrained()
    for key in (FRONT, WRIST):
        loaded = built.images.of(key).trunk.backbone.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in loaded.items())


def test_pretrained_weights_that_are_missing_or_wrong_are_one_sentence(tmp_path):
    options = {"trunk": "efficientnet_b3", "grid": 2, "trunk_weights": str(tmp_path / "b3.pth")}
    built = policy(image(FRONT, 32, 32), **options)
    with pytest.raises(ConfigError, match=r"b3.pth: no such file of backbone weights"):
        built.load_pretrained()
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "b3.pth")
    with pytest.raises(ConfigError, match=r"not the weights of this EfficientNet"):
        built.load_pretrained()


def test_a_missing_or_misshapen_instruction_is_one_sentence():
    built = policy()
    observation = make_example_batch(built.config)
    with pytest.raises(ObservationError, match=r"'task_embedding' must be \[B, 6\], got \[2, 5\]"):
        built.predict_action_chunk({**observation, "task_embedding": torch.zeros(2, 5)})
    del observation["task_embedding"]
    with pytest.raises(ObservationError, match="lacks 'task_embedding'"):
        built.predict_action_chunk(observation)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_heads": 3}, "n_heads=3 must divide width=16"),
        ({"bins": 1}, "bins=1 must be at least 2"),
        ({"grid": 0}, "grid=0 must be at least 1"),
        ({"dropout": 1.0}, "dropout=1 must be at least 0 and below 1"),
        ({"ranges": {"gripperr": [0.0, 1.0]}}, "ranges: 'gripperr' is not a number of the action: x, y, z"),
        ({"ranges": {"x": [1.0, 1.0]}}, "ranges: 'x' ends at 1, which is not above 1"),
        ({"ranges": {"x": [1.0]}}, "ranges.x expected 2 entries, got 1"),
        ({"categories": {"x": [1.0, 1.0]}}, r"categories: 'x' needs 1 to bins=16 different values, got \[1.0, 1.0\]"),
        ({"categories": {"x": [1.0]}, "ranges": {"x": [0.0, 1.0]}}, "ranges: 'x' is one of the categories"),
        (
            {"trunk_weights": "b3.pth"},
            "trunk_weights 'b3.pth' are given, but no published weights are of",
        ),
        ({"trunk": "small_cnn"}, "trunk 'small_cnn' is not one of .*Did you mean 'small_conv'"),
        ({"text": {"kind": "characters"}}, "text: kind 'characters', but this policy reads text of kind sentence_emb"),
    ],
)
def test_bad_option_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        policy(**options)


def test_inputs_that_rt1_cannot_see_are_refused():
    with pytest.raises(ConfigError, match=r"no camera among observation.state; rt1 needs"):
        policy(vector())
