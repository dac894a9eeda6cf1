import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from vla_ros.checkpoint import load_checkpoint
from vla_ros.data_types import ConfigError, ContractError, DatasetError
from vla_ros.datasets import EpisodeDataset, WindowSampler
from vla_ros.training import TrainingError, load_recipe, train

FRONT, STATE = "observation.images.front", "observation.state"


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def metrics(checkpoint: Path) -> list[dict]:
    lines = (checkpoint.parent / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "wall_s"} for line in lines]


def test_run_leaves_its_files_and_a_checkpoint_that_acts(make_recipe, recorded, dataset_root):
    progress = recorded()
    folder = train(load_recipe(make_recipe()), progress)
    run = folder.parent
    assert {path.name for path in run.iterdir()} == {
        "recipe.yaml",
        "metrics.jsonl",
        "loss_curve.png",
        "resume.pt",
        "checkpoint",
    }
    assert (run / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "loss_curve.png").read_bytes() == (run / "loss_curve.png").read_bytes()
    assert progress.finished
    assert [report.epoch for report in progress.reports] == [1, 2, 3, 4]
    checkpoint = load_checkpoint(folder)
    dataset = EpisodeDataset(dataset_root)
    checkpoint.check_robot(dataset.contract())
    raw = WindowSampler(dataset, [0], [FRONT, STATE], 1, 3).batch(np.arange(5))
    actions = checkpoint.processors.actions(
        checkpoint.policy.predict_action_chunk(checkpoint.processors.observation(raw)).actions
    )
    assert actions.shape == (5, 3, 4)
    assert actions.isfinite().all()


def test_metrics_say_what_was_measured(make_recipe, recorded):
    folder = train(load_recipe(make_recipe()), recorded())
    lines = metrics(folder)
    assert [line["step"] for line in lines] == [6, 12, 18, 24]
    assert all(
        np.isfinite([line["train_loss"], line["validation_loss"], *line["action_error"].values()]).all()
        for line in lines
    )
    assert set(lines[0]["action_error"]) == {"dx", "dy", "dz", "gripper"}
    metadata = load_checkpoint(folder).metadata
    best = min(lines, key=lambda line: line["validation_loss"])
    assert metadata["epoch"] == best["epoch"]
    assert metadata["metrics"]["validation_loss"] == best["validation_loss"]
    assert metadata["dataset"]["training_episodes"] == 4


@pytest.mark.slow
def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(make_recipe, recorded, tmp_path):
    path = make_recipe()
    folders = [
        train(load_recipe(path, [f"output={tmp_path / name}", f"seed={seed}"]), recorded())
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert_equal_weights(folders[0], folders[1])
    assert metrics(folders[0]) == metrics(folders[1])
    with pytest.raises(AssertionError):
        assert_equal_weights(folders[0], folders[2])


@pytest.mark.parametrize(
    "options",
    [
        {"optimiser": {"name": "adamw"}, "schedule": {"name": "one_cycle"}},
        pytest.param(
            {
                "optimiser": {"name": "adam", "grad_clip": 0.5},
                "schedule": {"name": "plateau", "patience": 0},
                "ema_decay": 0.9,
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["adamw_one_cycle", "adam_plateau_ema"],
)
def test_interrupted_and_resumed_run_equals_one_that_was_not(make_recipe, recorded, tmp_path, options):
    path = make_recipe(keep_best=False, **options)
    whole, parts = (load_recipe(path, [f"output={tmp_path / name}"]) for name in ("whole", "parts"))
    train(whole, recorded())
    with pytest.raises(KeyboardInterrupt):
        train(parts, recorded(interrupt_in_epoch=3))
    progress = recorded()
    train(parts, progress, resume=True)
    assert progress.done_steps == 12
    assert [report.epoch for report in progress.reports] == [3, 4]
    assert_equal_weights(tmp_path / "whole/checkpoint", tmp_path / "parts/checkpoint")
    assert metrics(tmp_path / "whole/checkpoint") == metrics(tmp_path / "parts/checkpoint")


@pytest.mark.slow
def test_finished_run_can_be_given_more_epochs(make_recipe, recorded, tmp_path):
    path = make_recipe(keep_best=False)
    train(load_recipe(path, ["epochs=2", f"output={tmp_path / 'two'}"]), recorded())
    train(load_recipe(path, ["epochs=4", f"output={tmp_path / 'two'}"]), recorded(), resume=True)
    train(load_recipe(path, ["epochs=4", f"output={tmp_path / 'four'}"]), recorded())
    assert_equal_weights(tmp_path / "two/checkpoint", tmp_path / "four/checkpoint")


@pytest.mark.slow
def test_policy_learns_what_there_is_to_learn(make_recipe, recorded):
    overrides = {"hidden_dims": [64], "dropout": 0.0, "magnitude_weighting": False}
    path = make_recipe(
        inputs=[STATE],
        policy={"name": "bc", "overrides": overrides},
        augmentation=None,
        epochs=60,
        optimiser={"lr": 0.003},
    )
    lines = metrics(train(load_recipe(path), recorded()))
    assert lines[-1]["action_error"]["dz"] < 0.3 * lines[0]["action_error"]["dz"]
    assert lines[-1]["action_error"]["gripper"] < 0.3 * lines[0]["action_error"]["gripper"]


def test_saved_average_of_weights_is_what_was_validated(make_recipe, recorded):
    path = make_recipe(ema_decay=0.9, keep_best=False)
    folder = train(load_recipe(path), recorded())
    state = torch.load(folder.parent / "resume.pt", weights_only=True)["trainer"]
    saved = weights(folder)
    assert all(torch.equal(saved[name], value) for name, value in state["average"].items())
    assert any(not torch.equal(saved[name], value) for name, value in state["policy"].items())


def test_steps_may_end_in_the_middle_of_an_epoch(make_recipe, recorded):
    folder = train(load_recipe(make_recipe(epochs=None, steps=8)), recorded())
    assert [(line["epoch"], line["step"]) for line in metrics(folder)] == [(1, 6), (2, 8)]


def test_early_stop_ends_a_run_that_no_longer_improves(make_recipe, recorded):
    progress = recorded()
    train(load_recipe(make_recipe(epochs=50, early_stop_epochs=1, optimiser={"lr": 0.1})), progress)
    assert len(progress.reports) < 50
    assert progress.reports[-1].validation_loss >= progress.reports[-2].validation_loss


def test_training_without_validation_keeps_the_last_weights(make_recipe, recorded, dataset_root):
    path = make_recipe(dataset={"root": str(dataset_root), "validation_fraction": 0.0}, epochs=2)
    folder = train(load_recipe(path), recorded())
    assert metrics(folder)[-1]["validation_loss"] is None
    assert load_checkpoint(folder).metadata["epoch"] == 2


def test_bf16_trains(make_recipe, recorded):
    folder = train(load_recipe(make_recipe(precision="bf16", epochs=1)), recorded())
    assert {value.dtype for value in weights(folder).values()} == {torch.float32}


def test_random_state_and_threads_of_the_caller_are_left_alone(make_recipe, recorded):
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train(load_recipe(make_recipe(epochs=1)), recorded())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_constant_numbers_are_announced(make_recipe, recorded, write_tiny_dataset, tmp_path):
    root = write_tiny_dataset(tmp_path / "still", constant_gripper=True)
    progress = recorded()
    path = make_recipe(dataset={"root": str(root), "validation_fraction": 0.0}, epochs=1, inputs=[STATE])
    train(load_recipe(path), progress)
    assert any("observation.state: gripper_opening never varied" in text for text in progress.messages)


def test_taken_output_folder_is_not_overwritten_unasked(make_recipe, recorded):
    recipe = load_recipe(make_recipe(epochs=1))
    folder = train(recipe, recorded())
    with pytest.raises(ConfigError, match="holds a run already; resume it, overwrite it, or choose another output"):
        train(recipe, recorded())
    assert train(recipe, recorded(), overwrite=True) == folder


def test_resume_of_nothing_is_one_sentence(make_recipe, recorded):
    with pytest.raises(ConfigError, match="there is no run to resume here"):
        train(load_recipe(make_recipe()), recorded(), resume=True)


def test_resume_with_another_recipe_names_what_changed(make_recipe, recorded):
    path = make_recipe(epochs=1)
    train(load_recipe(path), recorded())
    with pytest.raises(ConfigError, match=r"cannot be resumed, for these changed since: batch_size, optimiser"):
        train(load_recipe(path, ["optimiser.lr=0.5", "batch_size=4"]), recorded(), resume=True)


def test_resume_from_a_damaged_state_is_one_sentence(make_recipe, recorded):
    recipe = load_recipe(make_recipe(epochs=1))
    state = train(recipe, recorded()).parent / "resume.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"resume.pt: damaged"):
        train(recipe, recorded(), resume=True)


def test_diverged_training_says_so(make_recipe, recorded):
    overrides = {"tanh": False, "objective": "mse"}
    path = make_recipe(policy={"name": "bc", "overrides": overrides}, optimiser={"name": "adam", "lr": 1e30}, epochs=3)
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step .*lower optimiser.lr"):
        train(load_recipe(path), recorded())


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"dataset": {"root": "/no/such/data"}}, DatasetError, r"/no/such/data/meta/info.json: no such file"),
        (
            {"inputs": ["observation.stat"]},
            ConfigError,
            r"inputs\[0\] 'observation.stat' is not an observation of .*Did you mean 'observation.state'",
        ),
        ({"inputs": ["observation.images.wrist"]}, ConfigError, "is not an observation of"),
        ({"policy": {"name": "bcc"}}, ConfigError, "Did you mean 'bc'"),
        ({"policy": {"name": "bc", "overrides": {"dropot": 0}}}, ConfigError, "dropot is not a field here"),
        ({"policy": {"name": "bc", "overrides": {"inputs": {}}}}, ConfigError, "comes from the recipe's inputs"),
        ({"normalisation": {"action": "mean_std"}}, ConfigError, "leaves actions outside .*use min_max"),
        ({"normalisation": {"keys": {"x": "min_max"}}}, ConfigError, "this policy has no 'x'"),
        ({"device": "warp"}, ConfigError, "device 'warp' cannot be used"),
    ],
)
def test_recipe_that_does_not_fit_is_one_sentence(make_recipe, recorded, changes, error, sentence):
    recipe = load_recipe(make_recipe(**changes))
    with pytest.raises(error, match=sentence) as raised:
        train(recipe, recorded())
    assert "\n" not in str(raised.value)
    assert not Path(recipe.output).exists()


def test_dataset_without_a_contract_is_refused(make_recipe, recorded, dataset_root, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(dataset_root, copy)
    (copy / "meta/contract.yaml").unlink()
    with pytest.raises((DatasetError, ContractError), match=r"contract\.yaml: no such file"):
        train(load_recipe(make_recipe(dataset={"root": str(copy)})), recorded())


def test_written_recipe_runs_again_to_the_same_weights(make_recipe, recorded, tmp_path):
    (tmp_path / "options.yaml").write_text("hidden_dims: [8]\n")
    path = make_recipe(policy={"name": "bc", "options": "options.yaml"}, epochs=1)
    folder = train(load_recipe(path), recorded())
    written = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert written["policy"]["overrides"]["hidden_dims"] == [8]
    again = train(load_recipe(folder / "recipe.yaml", [f"output={tmp_path / 'again'}"]), recorded())
    assert_equal_weights(folder, again)
