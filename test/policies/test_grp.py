import pytest
import torch
import yaml
from safetensors.torch import load_model, save_model

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.data_types.resources import resource_path
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch
from vla_ros.policies.grp.sequence import TokenLayout, block_mask, draw_goal_choices

FRONT, WRIST, STATE, GOAL = "observation.images.front", "observation.images.wrist", "observation.state", "goal.image"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def image(key: str, height: int = 16, width: int = 16) -> FeatureSpec:
    return FeatureSpec(key, "image", (height, width, 3), "uint8", ("height", "width", "channels"))


def vector(key: str = STATE, size: int = 4) -> FeatureSpec:
    return FeatureSpec(key, "vector", (size,), "float32", tuple(f"n{i}" for i in range(size)))


def action(size: int = 4) -> FeatureSpec:
    return FeatureSpec("action", "action", (size,), "float32", tuple(f"a{i}" for i in range(size)))


def policy(*inputs: FeatureSpec, action_dim: int = 4, small: bool = True, **options):
    sizes = {"width": 16, "depth": 2, "n_heads": 2, "dropout": 0.0} if small else {}
    inputs = inputs or (image(FRONT), image(GOAL))
    config = {"inputs": {spec.key: spec for spec in inputs}, "action": action(action_dim), **sizes, **options}
    built = build_policy("grp", config)
    for parameter in built.parameters():  # the initial weights are so small that wrong answers would hardly differ
        parameter.data += 0.1 * torch.randn_like(parameter) if not parameter.is_meta else 0.0
    return built


def predicted(built, observation, mask=None):
    return built.eval().predict_action_chunk(observation, mask=mask).actions


def published(**options):
    return policy(image(FRONT, 64, 64), image(GOAL, 64, 64), action_dim=7, small=False, **options)


@pytest.mark.parametrize(("width", "count"), [(128, 855_303), (256, 3_283_463), (512, 12_858_375)])
def test_published_sizes_have_the_settled_counts(width, count):
    with torch.device("meta"):
        built = published(width=width)
    assert built.parameter_counts()["total"] == count


def test_published_sequence_has_206_tokens_with_goal_and_text_where_settled():
    with torch.device("meta"):
        built = published()
    assert built.layout.length == 1 + 128 + 1 + 64 + 12 == 206
    assert (built.layout.goal.start, built.layout.goal.stop - 1) == (129, 193)
    assert (built.layout.text.start, built.layout.text.stop - 1) == (194, 205)
    assert built.stem.projector.in_features == 192
    assert built.positions_LD.shape == (206, 128)


def test_the_options_file_of_the_published_size_is_the_published_size():
    options = yaml.safe_load(resource_path("config/policies/grp.yaml").read_text())
    with torch.device("meta"):
        assert published(**options).parameter_counts()["total"] == 855_303


def test_the_small_options_file_sees_two_cameras_and_proprioception():
    options = yaml.safe_load(resource_path("config/policies/grp_small.yaml").read_text())
    built = policy(image(FRONT, 84, 84), image(WRIST, 84, 84), vector(), small=False, **options)
    assert built.layout == TokenLayout(n_camera=8, n_state=1, n_goal=0, n_text=12)
    assert predicted(built, make_example_batch(built.config)).shape == (2, 8, 4)


def test_initial_weights_have_a_deviation_of_0_02():
    built = build_policy("grp", {"inputs": {FRONT: image(FRONT, 64, 64)}, "action": action(), "width": 256, "depth": 1})
    for name, parameter in built.named_parameters():
        if "norm" in name:
            continue
        expected = 0.0 if name.endswith("bias") else 0.02
        assert parameter.std().item() == pytest.approx(expected, rel=0.1), name


def test_block_mask_hides_goal_text_or_nothing():
    layout = TokenLayout(n_camera=128, n_state=0, n_goal=65, n_text=12)
    hidden = {choice: (~block_mask(choice, layout)).nonzero().flatten().tolist() for choice in (True, False, None)}
    assert hidden == {True: list(range(129, 194)), False: list(range(194, 206)), None: []}


def test_a_token_of_proprioception_moves_goal_and_text_by_one():
    built = policy(image(FRONT), vector(), image(GOAL))
    assert (built.layout.goal, built.layout.text) == (slice(10, 15), slice(15, 27))


@pytest.mark.parametrize("stem", ["patches", "keypoints"])
def test_the_masked_goal_never_influences_the_action(stem):
    built = policy(image(FRONT), image(GOAL), stem=stem)
    observation = make_example_batch(built.config)
    words, picture, both = (predicted(built, observation, mask) for mask in (True, False, None))
    no_goal, no_words = dict(observation), dict(observation)
    for content in (torch.randn_like(observation[GOAL]), torch.full_like(observation[GOAL], float("nan"))):
        no_goal[GOAL] = content
        assert torch.equal(predicted(built, no_goal, True), words)
    no_words["task_tokens"] = torch.randint_like(observation["task_tokens"], 90)
    assert torch.equal(predicted(built, no_words, False), picture)
    no_goal[GOAL] = torch.randn_like(observation[GOAL])
    assert not torch.allclose(predicted(built, no_goal), both)
    assert not torch.allclose(predicted(built, no_words), both)


def test_a_mask_per_sample_is_the_choice_of_each_sample():
    built = policy()
    observation = make_example_batch(built.config, batch_size=3)
    choices = (True, False, None)
    mask = torch.stack([block_mask(choice, built.layout) for choice in choices])
    together = predicted(built, observation, mask)
    for row, choice in enumerate(choices):
        torch.testing.assert_close(together[row], predicted(built, observation, choice)[row])


def test_a_mask_of_another_shape_is_refused():
    built = policy()
    with pytest.raises(ObservationError, match=r"mask must be \[B, L\] = \[2, 26\], got \[2, 25\]"):
        predicted(built, make_example_batch(built.config), torch.ones(2, 25))


def test_even_a_mask_that_hides_everything_gives_an_action():
    built = policy()
    observation = make_example_batch(built.config)
    assert predicted(built, observation, torch.zeros(2, 26, dtype=torch.bool)).isfinite().all()


def test_an_observation_without_goal_image_hides_it():
    built = policy()
    observation = make_example_batch(built.config)
    words = predicted(built, observation, True)
    del observation[GOAL]
    assert torch.equal(predicted(built, observation), words)


def test_a_policy_without_room_for_a_goal_image_equals_one_that_hides_it():
    with_goal, without = policy(), policy(image(FRONT))
    state, layout = with_goal.state_dict(), with_goal.layout
    kept = torch.ones(layout.length, dtype=torch.bool)
    kept[layout.goal] = False
    state["positions_LD"] = state["positions_LD"][kept]
    del state["goal_token"]
    without.load_state_dict(state)
    observation = make_example_batch(with_goal.config)
    torch.testing.assert_close(predicted(without, observation), predicted(with_goal, observation, True))


@pytest.mark.parametrize("stem", ["patches", "keypoints"])
def test_text_padding_never_changes_an_action(stem):
    built = policy(image(FRONT), stem=stem)
    observation = make_example_batch(built.config)
    before = predicted(built, observation)
    padding = ~observation["task_mask"]
    observation["task_tokens"] = observation["task_tokens"].masked_fill(padding, 10**6)
    assert torch.equal(predicted(built, observation), before)


def test_shorter_text_uses_the_first_positions():
    built = policy()
    observation = make_example_batch(built.config)  # half of the text is padding
    before = predicted(built, observation)
    for key in ("task_tokens", "task_mask"):
        observation[key] = observation[key][:, :6]
    torch.testing.assert_close(predicted(built, observation), before)


def test_longer_text_is_one_sentence():
    built = policy()
    observation = make_example_batch(built.config)
    for key in ("task_tokens", "task_mask"):
        observation[key] = torch.cat([observation[key]] * 2, dim=1)
    with pytest.raises(ObservationError, match=r"positions for 26: the text may have at most 12 tokens, got 24"):
        predicted(built, observation)


@pytest.mark.parametrize(("width", "projected"), [(16, False), (24, True)])
def test_an_encoders_vectors_are_projected_when_their_width_differs(width, projected):
    text = {"kind": "encoder", "source": "t5-small", "width": width, "length": 5}
    built = policy(image(FRONT), text=text)
    assert built.parameter_counts()["text"] == (projected and 24 * 16 + 16)
    observation = make_example_batch(built.config)
    before = predicted(built, observation)
    hidden = ~observation["task_mask"][..., None]
    observation["task_embeddings"] = observation["task_embeddings"].masked_fill(hidden, float("nan"))
    assert torch.equal(predicted(built, observation), before)
    observation["task_embeddings"] = torch.randn_like(observation["task_embeddings"])
    assert not torch.allclose(predicted(built, observation), before)


def test_a_policy_without_text_reads_none():
    built = policy(image(FRONT), text=None)
    observation = make_example_batch(built.config)
    assert "task_tokens" not in observation
    assert predicted(built, observation).shape == (2, 1, 4)


def test_missing_and_misshapen_text_is_one_sentence():
    built = policy()
    observation = make_example_batch(built.config)
    with pytest.raises(ObservationError, match=r"'task_mask' must be \[B, 12\], got \[2, 3\]"):
        predicted(built, {**observation, "task_mask": observation["task_mask"][:, :3]})
    del observation["task_tokens"]
    with pytest.raises(ObservationError, match="lacks 'task_tokens', which text of kind 'characters' becomes"):
        predicted(built, observation)


@pytest.mark.parametrize("stem", ["patches", "keypoints"])
def test_every_input_and_every_frame_matters(stem):
    built = policy(image(FRONT), image(WRIST, 8, 24), vector(), stem=stem)
    observation = make_example_batch(built.config)
    before = predicted(built, observation)
    for key in (FRONT, WRIST, STATE):
        for frame in range(2):
            changed = dict(observation, **{key: observation[key].clone()})
            changed[key][:, frame] = torch.randn_like(changed[key][:, frame])
            assert not torch.equal(predicted(built, changed), before), (key, frame)


def test_frames_before_the_begin_change_nothing():
    built = policy(image(FRONT), vector(), n_obs_steps=3)
    observation = make_example_batch(built.config)
    observation["is_pad"][:, :2] = True
    before = predicted(built, observation)
    for key in (FRONT, STATE):
        observation[key] = observation[key].clone()
        observation[key][:, :2] = float("nan")
    assert torch.equal(predicted(built, observation), before)


def test_samples_of_a_batch_do_not_see_each_other():
    built = policy(image(FRONT), vector())
    both = make_example_batch(built.config)
    first = {key: value[:1] for key, value in both.items()}
    torch.testing.assert_close(predicted(built, both)[:1], predicted(built, first), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_padded_steps_change_no_loss(loss):
    built = policy(image(FRONT), action_horizon=4, objective=loss, **({"bins": 16} if loss == "cross_entropy" else {}))
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


def test_one_goal_is_dropped_for_the_share_of_samples_asked_for():
    layout = TokenLayout(n_camera=2, n_state=0, n_goal=3, n_text=4)
    masks = draw_goal_choices(0.5, layout, 4000, torch.Generator().manual_seed(0), torch.device("cpu"))
    no_goal, no_text = ~masks[:, layout.goal].any(dim=1), ~masks[:, layout.text].any(dim=1)
    assert masks[:, :3].all()
    assert not (no_goal & no_text).any()
    assert no_goal.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert no_text.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_goals_are_dropped_in_training_only_and_by_the_generator():
    built = policy(goal_dropout=1.0)
    batch = make_example_batch(built.config, batch_size=8)
    losses = [built.train().compute_loss(batch, torch.Generator().manual_seed(s)).loss.item() for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    evaluated = {built.eval().compute_loss(batch, torch.Generator().manual_seed(s)).loss.item() for s in (0, 1)}
    assert len(evaluated) == 1


def test_a_lone_goal_is_never_dropped():
    built = policy(image(FRONT)).train()
    assert built.config.goal_dropout == 0.5
    batch = make_example_batch(built.config)
    assert built.compute_loss(batch).loss == built.eval().compute_loss(batch).loss


def test_binned_actions_are_centres_of_bins():
    built = policy(image(FRONT), objective="cross_entropy", bins=5, action_horizon=3)
    actions = predicted(built, make_example_batch(built.config))
    assert actions.shape == (2, 3, 4)
    assert torch.equal(actions * 2, (actions * 2).round())
    assert built.config.bounded_actions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "cross_entropy", "bins": 16, "action_horizon": 2},
        {"stem": "keypoints", "action_horizon": 2},
        {"text": {"kind": "encoder", "source": "t5-small", "width": 8}},
    ],
    ids=["mse", "bins", "keypoints", "encoder"],
)
@pytest.mark.slow
def test_one_batch_is_overfitted(options):
    built = policy(image(FRONT), vector(), image(GOAL), **options).train()
    batch = make_example_batch(built.config, batch_size=4)
    optimiser = torch.optim.Adam(built.parameters(), 3e-3)
    first = None
    for _ in range(120):
        output = built.compute_loss(batch, torch.Generator().manual_seed(0))
        first = first if first is not None else output.loss.item()
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert output.loss.item() < 0.02 * first


def test_saved_and_loaded_policy_predicts_identical_actions(tmp_path):
    built, again = policy(), policy()
    save_model(built, str(tmp_path / "model.safetensors"))
    load_model(again, tmp_path / "model.safetensors", strict=True)
    observation = make_example_batch(built.config)
    assert torch.equal(predicted(built, observation), predicted(again, observation))
    assert build_policy("grp", built.config.to_dict()).config == built.config


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_heads": 3}, "n_heads=3 must divide width=16"),
        ({"patch_size": 5}, "patch_size=5 does not divide the image of 16×16"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"dropout": 1.0}, "dropout=1 must be at least 0 and below 1"),
        ({"goal_dropout": 1.5}, "goal_dropout=1.5 must be between 0 and 1"),
        ({"bins": 1}, "bins=1 must be at least 2"),
        ({"stem": "patch"}, "stem 'patch' is not one of patches, keypoints.*Did you mean 'patches'"),
        (
            {"text": {"kind": "sentence_embedding"}},
            "text: kind 'sentence_embedding', but this policy reads text of kind",
        ),
        ({"text": {"kind": "tokenizer"}}, "text kind 'tokenizer' needs source"),
        ({"widht": 8}, "widht is not a field here.*Did you mean 'width'"),
    ],
)
def test_bad_option_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        policy(image(FRONT), **options)


def test_inputs_that_grp_cannot_see_are_refused():
    with pytest.raises(ConfigError, match=r"no camera among observation.state; grp needs"):
        policy(vector())


def test_a_policy_that_reads_no_text_refuses_it():
    with pytest.raises(ConfigError, match="text: kind 'characters', but this policy reads no text"):
        build_policy("bc", {"inputs": {STATE: vector()}, "action": action(), "text": {"kind": "characters"}})
