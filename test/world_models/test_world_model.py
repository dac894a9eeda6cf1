"""The RSSM by hand, what a reset forgets, what planners find, and a policy that plans in the predictor's loop."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from vla_ros.checkpoint import load_checkpoint
from vla_ros.cli.main import main
from vla_ros.contract import FeatureSpec, load_contract
from vla_ros.data_types import ConfigError, Observation, ObservationError
from vla_ros.datasets import DatasetWriter, EpisodeDataset, WindowSampler
from vla_ros.policies import build_policy
from vla_ros.policies.examples import make_example_batch
from vla_ros.runtime.torch_predictor import TorchPredictor
from vla_ros.training import load_recipe, train
from vla_ros.world_models import CrossEntropyMethod, Latent, RandomShooting, open_loop
from vla_ros.world_models.distributions import (
    balanced_kl,
    categorical_kl,
    mode_one_hot,
    sample_one_hot,
    symexp,
    symlog,
    unimix,
)
from vla_ros.world_models.planners import shifted

FRONT, STATE = "observation.images.front", "observation.state"
ROBOT = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
TINY = {"hidden_dim": 16, "n_latents": 3, "n_classes": 4, "image_depth": 2, "action_horizon": 4, "samples": 8}
TINY |= {"elites": 3, "iterations": 2, "sequence_length": 6, "n_obs_steps": 2}


def policy(**options):
    torch.manual_seed(0)
    inputs = {
        FRONT: FeatureSpec(FRONT, "image", (16, 32, 3), "uint8", ("height", "width", "channels")),
        STATE: FeatureSpec(STATE, "vector", (3,), "float32", ("x", "y", "z")),
    }
    action = FeatureSpec("action", "action", (2,), "float32", ("a", "b"))
    return build_policy("world_model", {"inputs": inputs, "action": action, **TINY, **options})


def sequences(steps: int = 6, size: int = 3):
    generator = torch.Generator().manual_seed(0)
    batch = {
        FRONT: torch.rand((size, steps, 3, 16, 32), generator=generator) * 2 - 1,
        STATE: torch.randn((size, steps, 3), generator=generator),
        "past_action": torch.rand((size, steps - 1, 2), generator=generator) * 2 - 1,
        "is_pad": torch.zeros(size, steps, dtype=torch.bool),
    }
    batch["reward"] = torch.rand((size, steps), generator=generator)
    batch["is_last"] = torch.arange(steps).expand(size, -1) == steps - 1
    return batch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- arithmetic by hand


def test_symlog_keeps_small_numbers_and_takes_the_logarithm_of_large_ones():
    values = torch.tensor([0.0, math.e - 1.0, -(math.e**2 - 1.0), 1e-4])
    torch.testing.assert_close(symlog(values), torch.tensor([0.0, 1.0, -2.0, 1e-4]), atol=1e-8, rtol=1e-4)
    torch.testing.assert_close(symexp(symlog(values)), values)


def test_unimix_leaves_a_hundredth_to_chance():
    probabilities = unimix(torch.tensor([[math.log(3.0), 0.0], [200.0, -200.0]]), 0.01).exp()
    torch.testing.assert_close(probabilities, torch.tensor([[0.7475, 0.2525], [0.995, 0.005]]))


def test_divergence_is_summed_over_the_latents():
    # KL([½ ½] ‖ [¼ ¾]) = ½ ln 2 + ½ ln ⅔, KL(p ‖ p) = 0
    p = torch.tensor([[[0.5, 0.5], [0.3, 0.7]]]).log()
    q = torch.tensor([[[0.25, 0.75], [0.3, 0.7]]]).log()
    expected = 0.5 * math.log(2.0) + 0.5 * math.log(2.0 / 3.0)
    torch.testing.assert_close(categorical_kl(p, q), torch.tensor([expected]))


def test_free_nats_hold_each_step_and_not_the_mean():
    near, far = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.999, 0.001]]).log()
    dynamics, representation = balanced_kl(torch.stack([near, far]), torch.stack([near, near]), free_nats=0.2)
    torch.testing.assert_close(dynamics, torch.tensor([0.2, float(categorical_kl(far, near))]))
    torch.testing.assert_close(representation, dynamics)


def test_each_half_of_the_balance_teaches_one_side():
    posterior = torch.randn(4, 3, 5).log_softmax(-1).requires_grad_()
    prior = torch.randn(4, 3, 5).log_softmax(-1).requires_grad_()
    dynamics, representation = balanced_kl(posterior, prior, free_nats=0.0)
    on_prior = torch.autograd.grad(dynamics.sum(), [posterior, prior], allow_unused=True)
    on_posterior = torch.autograd.grad(representation.sum(), [posterior, prior], allow_unused=True)
    assert on_prior[0] is None
    assert on_prior[1].abs().sum() > 0
    assert on_posterior[0].abs().sum() > 0
    assert on_posterior[1] is None


def test_a_sample_is_one_hot_and_has_the_gradient_of_the_probabilities():
    logits = torch.randn(5, 3, 4, requires_grad=True)
    sample = sample_one_hot(unimix(logits), seeded())
    torch.testing.assert_close(sample.detach().sum(dim=-1), torch.ones(5, 3))
    torch.testing.assert_close(sample.detach().max(dim=-1).values, torch.ones(5, 3))
    weight = torch.randn(5, 3, 4)
    (through,) = torch.autograd.grad((sample * weight).sum(), logits)
    (direct,) = torch.autograd.grad((unimix(logits).exp() * weight).sum(), logits)
    torch.testing.assert_close(through, direct)


def test_samples_are_as_frequent_as_they_are_likely():
    log_p = torch.tensor([0.7, 0.2, 0.1]).log().expand(20_000, 1, 3)
    frequency = sample_one_hot(log_p, seeded()).mean(dim=(0, 1))
    torch.testing.assert_close(frequency, torch.tensor([0.7, 0.2, 0.1]), atol=0.02, rtol=0.0)
    assert mode_one_hot(log_p)[0, 0].tolist() == [1.0, 0.0, 0.0]


# --- the model


def test_a_reset_forgets_state_latents_and_action():
    rssm = policy().model.rssm
    embedding, action = torch.randn(2, 6, rssm.posterior[0].in_features - 16), torch.rand(2, 6, 2)
    is_first = torch.zeros(2, 6, dtype=torch.bool)
    is_first[:, 0] = is_first[:, 3] = True
    whole = rssm.observe(action, embedding, is_first, sample=False)
    other_action = action.clone()
    other_action[:, 3] = -7.0  # led from another episode to this frame
    later = rssm.observe(other_action[:, 3:], embedding[:, 3:], is_first[:, 3:], sample=False)
    for first, second in zip(whole.latents[3:], later.latents, strict=True):
        torch.testing.assert_close(first.h_BD, second.h_BD)
        torch.testing.assert_close(first.z_BZ, second.z_BZ)
    without_reset = rssm.observe(action, embedding, is_first & (torch.arange(6) == 0), sample=False)
    assert not torch.allclose(without_reset.latents[3].h_BD, whole.latents[3].h_BD)


def test_imagination_is_the_prior_and_sees_nothing():
    rssm = policy().model.rssm
    latent, action = rssm.initial(2), torch.rand(2, 3, 2)
    imagined = rssm.imagine(latent, action, sample=False)
    h = rssm.advance(latent, action[:, 0])
    assert torch.equal(imagined[0].h_BD, h)
    assert torch.equal(imagined[0].z_BZ, mode_one_hot(rssm.prior_of(h)).flatten(1))


def test_padding_before_an_episode_changes_nothing():
    built, whole = policy(), sequences()
    short = {key: value[:, 2:] for key, value in whole.items()}
    padded = {key: value.clone() for key, value in whole.items()}
    padded["is_pad"][:, :2] = True
    for fill in (0.0, float("nan")):
        for key in (FRONT, STATE, "past_action"):
            padded[key][:, :2] = fill
        # the likeliest latents: sampling draws for padding too
        first, second = (built.model.observe(built.sequences(b), sample=False) for b in (padded, short))
        torch.testing.assert_close(first.posterior_BTGV[:, 2:], second.posterior_BTGV)
        loss = built.compute_loss(padded, seeded())
        assert loss.loss.isfinite()
        assert {"images", "vectors", "dynamics", "representation", "reward", "continuation"} == set(loss.terms)


def test_it_overfits_a_sequence_and_imagines_it():
    built, batch = policy(hidden_dim=64, free_nats=0.0, image_depth=4), sequences(size=1)
    optimiser = torch.optim.Adam(built.parameters(), 3e-3)
    for step in range(120):
        optimiser.zero_grad()
        output = built.compute_loss(batch, seeded(step))
        output.loss.backward()
        optimiser.step()
    decoded = open_loop(built.eval(), batch, 2)
    error = (decoded[STATE][:, 2:] - batch[STATE][:, 2:]).square().mean()
    copied = (batch[STATE][:, 1:2] - batch[STATE][:, 2:]).square().mean()
    assert error < 0.2 * copied
    assert output.terms["reward"] < 0.01


def test_actions_between_the_frames_are_needed():
    batch = sequences()
    del batch["past_action"]
    with pytest.raises(ObservationError, match=r"'past_action' must be \[B=3, T-1=5, A\]"):
        policy().compute_loss(batch)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"elites": 9}, "elites=9 exceeds samples=8"),
        ({"planner": "random_shooting", "elites": 5}, "elites"),
        ({"reward": "profit"}, "reward"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        policy(**options)


def test_images_of_any_size_are_seen_and_decoded_at_their_size():
    inputs = {FRONT: FeatureSpec(FRONT, "image", (20, 33, 3), "uint8", ("height", "width", "channels"))}
    action = FeatureSpec("action", "action", (2,), "float32", ("a", "b"))
    built = build_policy("world_model", {"inputs": inputs, "action": action, **TINY})
    batch = make_example_batch(built.config, 2)
    assert built.compute_loss(batch, seeded()).loss.isfinite()
    assert open_loop(built, batch, 1)[FRONT].shape == (2, 2, 3, 20, 33)


# --- planning


def target_return(target):
    return lambda candidates: -(candidates - target[:, None]).square().sum(dim=(-2, -1))


def test_cem_finds_the_best_actions_and_random_shooting_comes_nearer():
    target, guess = torch.tensor([[[0.5, -0.5]] * 6, [[-0.9, 0.1]] * 6]), torch.zeros(2, 6, 2)
    method = CrossEntropyMethod(samples=200, elites=20, iterations=8)
    found = method.plan(target_return(target), guess, seeded())
    torch.testing.assert_close(found, target, atol=0.1, rtol=0.0)
    shot = RandomShooting(200).plan(target_return(target), guess, seeded())
    mean_of_all = (torch.rand((500, 6, 2), generator=seeded()) * 2 - 1 - target[:, None]).square().sum((-2, -1)).mean(1)
    errors = [(plan - target).square().sum(dim=(1, 2)) for plan in (found, shot)]
    assert (errors[0] < errors[1]).all()
    assert (errors[1] < mean_of_all).all()
    assert shot.abs().max() <= 1.0


def test_a_plan_that_was_begun_is_gone_on_with():
    plan = torch.arange(8.0).view(1, 4, 2)
    assert shifted(plan)[0, :, 0].tolist() == [2.0, 4.0, 6.0, 6.0]
    assert shifted(plan, 9)[0, :, 0].tolist() == [6.0] * 4
    target = torch.full((1, 6, 2), 0.9)
    one = CrossEntropyMethod(samples=30, elites=5, iterations=1)
    warm, cold = (
        one.plan(target_return(target), guess, seeded()) for guess in (torch.full((1, 6, 2), 0.8), torch.zeros(1, 6, 2))
    )
    assert (warm - target).square().sum() < (cold - target).square().sum()


def test_a_return_counts_no_reward_after_the_end():
    model = policy().model
    with torch.no_grad():
        for head, bias in ((model.reward, math.log(2.0)), (model.continuation, 0.0)):
            head[-1].weight.zero_()
            head[-1].bias.fill_(bias)  # a reward of 1 in every state, and a chance of ½ to go on
    value = model.returns(model.rssm.initial(1), torch.zeros(1, 2, 3, 2), 0.5, seeded())
    torch.testing.assert_close(value, torch.full((1, 2), 1.0 + 0.5 * 0.5 + 0.25 * 0.25))


def test_a_state_that_is_passed_in_is_what_was_seen():
    built = policy().eval()
    batch = make_example_batch(built.config, 2)
    first = built.predict_action_chunk(batch, None, seeded())
    assert first.actions.shape == (2, 4, 2)
    assert first.actions.abs().max() <= 1.0
    nothing_new = {**batch, "is_known": torch.ones(2, 2, dtype=torch.bool)}
    again = built.predict_action_chunk(nothing_new, first.state, seeded())
    assert torch.equal(again.state["h"], first.state["h"])
    one_new = {**batch, "is_known": torch.tensor([[True, False], [True, True]])}
    moved = built.predict_action_chunk(one_new, first.state, seeded())
    assert torch.equal(moved.state["h"][1], first.state["h"][1])
    # what was done since is the plan's first action
    before = Latent(first.state["h"], first.state["z"])
    after = built.model.rssm.advance(before, first.state["plan"][:, 0])
    torch.testing.assert_close(moved.state["h"][0], after[0])


# --- trained by the same loop, run by the same predictor


@pytest.fixture
def recipe(tmp_path):
    content = yaml.safe_load(ROBOT.read_text())
    content["inputs"] = [entry for entry in content["inputs"] if entry["key"] in (FRONT, STATE)]
    content["inputs"][0]["image"] = {"height": 16, "width": 16}
    text = yaml.safe_dump(content)
    (tmp_path / "robot.yaml").write_text(text)
    contract = load_contract(tmp_path / "robot.yaml")
    features = {key: contract.features[key] for key in (FRONT, STATE, "action")}
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "data", features, contract.fps, contract.robot_type, image_storage="png") as writer:
        for _ in range(4):
            position, frames = rng.uniform(-1, 1, 4), []
            for _ in range(14):
                action = rng.uniform(-0.1, 0.1, 4)
                image = np.full((16, 16, 3), int(127 + 100 * position[0]), np.uint8)
                frames.append({FRONT: image, STATE: position.astype(np.float32), "action": action.astype(np.float32)})
                position = np.clip(position + action, -1, 1)
            writer.add_episode(frames, "push the puck to the goal")
        writer.finish({"meta/contract.yaml": text, "meta/contract_hash.txt": contract.hash + "\n"})

    def make(options: dict, **changes):
        fields = {
            "output": str(tmp_path / "out"),
            "dataset": {"root": str(tmp_path / "data"), "validation_fraction": 0.25},
            "inputs": [FRONT, STATE],
            "normalisation": {"images": "min_max"},
            "policy": {"name": "world_model", "overrides": {**TINY, "sequence_length": 8, **options}},
            "epochs": 2,
            "batch_size": 8,
            "threads": 1,
            **changes,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(fields))
        return load_recipe(path)

    return make


def test_a_world_model_is_trained_validated_and_run_as_any_policy(recipe):
    folder = train(recipe({}))
    line = json.loads((folder.parent / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"reward", "continuation", "dynamics", "open_loop_1", "copy_last_1"} <= set(line["validation_terms"])
    predictor = TorchPredictor(load_checkpoint(folder), seed=0)
    values = {FRONT: np.zeros((2, 16, 16, 3), np.uint8), STATE: np.zeros((2, 4), np.float32)}
    observation = Observation(0, values, "push the puck to the goal", np.zeros(2, bool))
    first = predictor.predict(observation, np.array([False, False]))
    second = predictor.predict(observation, np.array([True, False]))
    assert first.shape == second.shape == (4, 4)
    assert np.isfinite([first, second]).all()
    predictor.begin_episode()
    np.testing.assert_array_equal(predictor.predict(observation, np.array([False, False])), first)


def test_success_is_a_reward_at_the_last_frame_alone(recipe):
    options = recipe({"reward": "success"}, epochs=1)
    dataset = EpisodeDataset(options.dataset.root)
    progress = WindowSampler(dataset, [0], [STATE], 3, 1, progress=True).batch(np.array([0, 6, 13]))["progress"]
    np.testing.assert_allclose(progress, np.array([[0, 0, 0], [4, 5, 6], [11, 12, 13]]) / 13, rtol=1e-6)
    assert train(options).is_dir()


def test_what_is_imagined_is_drawn_below_what_was_recorded(recipe, tmp_path, capsys):
    folder = train(recipe({}, epochs=1))
    output = tmp_path / "picture.png"
    arguments = ["imagine", "--checkpoint", str(folder), "--dataset", str(tmp_path / "data"), "--output", str(output)]
    assert main([*arguments, "--context", "3", "--ticks", "9"]) == 0
    printed = capsys.readouterr().out
    assert "5 ticks ahead" in printed
    assert "last frame repeated" in printed
    picture = cv2.imread(str(output))[..., ::-1]
    assert picture.shape[0] == 2 * (96 + 4)  # 16 pixels drawn six times as large, two rows
    recorded = EpisodeDataset(tmp_path / "data").episode(0, [FRONT]).values[FRONT]
    assert (picture[:96, 4:100] == recorded[0, 0, 0]).all()
    line = np.flatnonzero((picture[0] == (255, 80, 0)).all(axis=-1))
    assert len(line) == 4
    assert main([*arguments, "--ticks", "30"]) == 2
    assert "episode 0 has 14 frames, fewer than 5 of context and 30 to imagine" in capsys.readouterr().err
    assert main([*arguments, "--episode", "9"]) == 2
    assert "has no episode 9" in capsys.readouterr().err
