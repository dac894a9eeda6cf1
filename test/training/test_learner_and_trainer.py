"""The trainer trains any learner, alike with any number of threads, and goes on exactly where it was killed."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.networks.gradient_checkpointing import enable_gradient_checkpointing
from vla_ros.policies import LossOutput, build_policy
from vla_ros.policies.common.padding import without_padded_values
from vla_ros.policies.examples import make_example_batch
from vla_ros.policies.parts import parameter_parts
from vla_ros.training import Measured, Trainer, load_recipe, train
from vla_ros.training.loader import prepared
from vla_ros.training.optimisation import build_optimiser
from vla_ros.training.recipe import DataOptions, OptimiserOptions, PolicyChoice, Recipe, ScheduleOptions
from vla_ros.training.schedule import Schedule
from vla_ros.training.trainer import train_mode
from vla_ros.training.weight_average import WeightAverage, batch_norm_recomputed

FRONT, STATE = "observation.images.front", "observation.state"


def metrics(run: Path) -> list[str]:
    return [line.rpartition(', "wall_s"')[0] for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_equal_state(first: Path, second: Path) -> None:
    left, right = (torch.load(run / "resume.pt", weights_only=True)["trainer"] for run in (first, second))
    for name in ("policy", "average"):
        assert left[name].keys() == right[name].keys()
        assert [key for key, value in left[name].items() if not torch.equal(value, right[name][key])] == []
    for index, values in left["optimiser"]["state"].items():
        assert all(torch.equal(value, right["optimiser"]["state"][index][key]) for key, value in values.items())
    assert metrics(first) == metrics(second)


# --- a learner that is no policy


@dataclass
class Numbers:
    """Windows that are their own indices."""

    count: int

    def __len__(self) -> int:
        return self.count

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.count)

    def batch(self, indices: np.ndarray) -> dict:
        return {"x": indices.astype(np.float32)[:, None] / self.count}


class Line:
    """Learns y = 3 x − 1."""

    name, device = "line", torch.device("cpu")

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1)

    def prepare(self, raw, generator):
        assert generator is not None
        return torch.from_numpy(raw["x"])

    def loss(self, prepared, generator):
        error = (self.module(prepared) - (3 * prepared - 1)).square().mean()
        return LossOutput(error, {"rms": error.detach().sqrt()})

    def measure(self, windows, batch_size, generator):
        self.module.eval()
        with torch.no_grad():
            output = self.loss(torch.from_numpy(windows.batch(np.arange(len(windows)))["x"]), generator)
        return Measured(float(output.loss), {"rms": float(output.terms["rms"])}, {"y": 0.5})


def test_whatever_has_a_loss_is_trained_by_the_same_loop(recorded):
    nowhere = {"dataset": DataOptions(root="none"), "policy": PolicyChoice(name="none"), "inputs": ("x",)}
    recipe = Recipe(output="none", epochs=40, workers=0, batch_size=8, optimiser=OptimiserOptions(lr=0.05), **nowhere)
    learner, progress, published = Line(), recorded(), []
    trainer = Trainer(recipe, learner, training=Numbers(64), validation=Numbers(16), progress=progress)
    trainer.run(lambda report, is_best: published.append((report, is_best)), lambda: None)
    assert [p.item() for p in learner.module.parameters()] == pytest.approx([3.0, -1.0], abs=0.05)
    assert published[-1][0].action_error == {"y": 0.5}
    assert published[-1][0].validation_terms.keys() == {"rms"}
    assert trainer.step == 320


# --- reading ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_the_order_of_their_steps(workers):
    assert list(prepared(lambda step: step * step, 4, 30, workers)) == [step * step for step in range(4, 30)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_batch_is_raised_where_the_batch_is_used(workers):
    def make(step: int) -> int:
        if step == 5:
            raise ConfigError("step 5")
        return step

    batches = prepared(make, 0, 20, workers)
    assert [next(batches) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match="step 5"):
        next(batches)


def test_threads_that_read_change_no_result(make_recipe, recorded, tmp_path):
    path = make_recipe(epochs=2, keep_best=False, ema_decay=0.9)
    for workers in (0, 3):
        train(load_recipe(path, [f"output={tmp_path / str(workers)}", f"workers={workers}"]), recorded())
    assert_equal_state(tmp_path / "0", tmp_path / "3")


def test_what_is_cached_changes_no_result(make_recipe, recorded, tmp_path):
    path = make_recipe(epochs=1, keep_best=False, ema_decay=0.9)
    for size in (0, 4):
        train(load_recipe(path, [f"output={tmp_path / str(size)}", f"dataset.cache_gb={size}"]), recorded())
    assert_equal_state(tmp_path / "0", tmp_path / "4")


# --- killed and resumed

_KILLED = """
import os, signal, sys
import vla_ros.training.run as run
from vla_ros.training import load_recipe, train
from vla_ros.training.progress import QuietProgress

place = sys.argv[2]

def killed(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

saved = run._Run.persist
def persist(self):
    if place == "state" and self.trainer.step == 8:
        run.torch.save = lambda state, path: (path.write_bytes(b"half"), killed())
    if place == "checkpoint" and self.trainer.step == 8:
        import vla_ros.checkpoint.save as save
        saved(self)
        save._swap = lambda new, path: (path.rename(new.with_name(f"{new.name}.old")), killed())
        return
    saved(self)
run._Run.persist = persist
train(load_recipe(sys.argv[1]), QuietProgress())
"""


@pytest.mark.parametrize("place", ["state", "checkpoint"])
def test_a_run_killed_with_sigkill_goes_on_exactly(place, make_recipe, recorded, tmp_path):
    path = make_recipe(epochs=2, keep_best=False, ema_decay=0.9, save_every_steps=4)
    recipe = load_recipe(path)
    train(load_recipe(path, [f"output={tmp_path / 'whole'}"]), recorded())
    command = [sys.executable, "-c", _KILLED, str(path), place]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert died.returncode == -signal.SIGKILL, died.stderr
    progress = recorded()
    train(recipe, progress, resume=True)
    assert progress.done_steps == {"state": 6, "checkpoint": 8}[place]
    assert_equal_state(tmp_path / "whole", Path(recipe.output))
    weights = [(run / "checkpoint/model.safetensors").read_bytes() for run in (tmp_path / "whole", Path(recipe.output))]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in Path(recipe.output).iterdir()) == [
        "checkpoint",
        "loss_curve.png",
        "metrics.jsonl",
        "recipe.yaml",
        "resume.pt",
    ]


# --- averaged weights and BatchNorm


def test_averaged_weights_get_batch_norm_statistics_of_their_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        model[0].weight.mul_(3.0)
    average.update(model)
    before = [value.clone() for value in model[1].buffers()]
    batches = [torch.randn(16, 3) for _ in range(5)]
    with average.applied(model), batch_norm_recomputed(model, lambda: batches, model):
        features = [batch @ model[0].weight.T + model[0].bias for batch in batches]
        mean = torch.stack([feature.mean(dim=0) for feature in features]).mean(dim=0)
        variance = torch.stack([feature.var(dim=0) for feature in features]).mean(dim=0)
        torch.testing.assert_close(model[1].running_mean, mean)
        torch.testing.assert_close(model[1].running_var, variance)
        assert not model[1].training
    assert all(torch.equal(value, old) for value, old in zip(model[1].buffers(), before, strict=True))
    assert model[1].momentum == 0.1


def test_a_saved_average_is_validated_with_statistics_of_its_own(make_recipe, recorded):
    """Without them, an average that lags far behind is measured with the statistics of other features."""
    overrides = {"backbone": "resnet18", "hidden_dims": [16], "action_horizon": 3}
    options = {"policy": {"name": "bc", "overrides": overrides}, "epochs": 1, "keep_best": False, "augmentation": None}
    folder = train(load_recipe(make_recipe(ema_decay=0.9, **options)), recorded())
    saved = load_file(folder / "model.safetensors")
    trained = torch.load(folder.parent / "resume.pt", weights_only=True)["trainer"]["policy"]
    differing = [name for name in saved if "running" in name and not torch.equal(saved[name], trained[name])]
    assert len(differing) == sum("running" in name for name in saved) > 0


# --- schedule, groups, frozen parts


def test_the_plateau_schedule_has_a_floor():
    schedule = Schedule(ScheduleOptions(name="plateau", patience=0, factor=0.5, floor=0.1), 100)
    for _ in range(20):
        schedule.validated(1.0)
    assert schedule.share(50) == 0.1


@pytest.mark.parametrize(
    ("variant_name", "parts"),
    [
        ("bc", {"vision", "heads"}),
        ("act", {"vision", "expert", "heads"}),
        ("grp", {"vision", "language", "expert", "heads"}),
        ("pi0", {"vision", "language", "expert", "heads"}),
    ],
)
def test_every_weight_belongs_to_one_part(variant_name, parts):
    policy = tiny_policy(variant_name)
    found = parameter_parts(policy)
    assert found.keys() == parts
    counted = sorted(id(p) for own in found.values() for p in own)
    assert counted == sorted(id(p) for p in policy.parameters())


def test_each_part_has_its_learning_rate_and_a_frozen_one_stays():
    policy = tiny_policy("bc")
    options = OptimiserOptions(lr=1e-3, part_lr={"vision": 0.0, "heads": 5e-4})
    optimiser = build_optimiser(policy, options)
    assert {group["lr"] for group in optimiser.param_groups} == {5e-4}
    assert not any(p.requires_grad for p in policy.encoders.parameters())
    train_mode(policy)
    before = {name: value.clone() for name, value in policy.encoders.state_dict().items()}
    batch = make_example_batch(policy.config, 4)
    policy.compute_loss(batch).loss.backward()
    optimiser.step()
    assert all(torch.equal(value, before[name]) for name, value in policy.encoders.state_dict().items())


def test_a_part_that_the_policy_lacks_is_named():
    with pytest.raises(ConfigError, match=r"'language' is no part of this model; it has vision, heads"):
        build_optimiser(tiny_policy("bc"), OptimiserOptions(part_lr={"language": 0.0}))
    with pytest.raises(ConfigError, match="nothing is left to train"):
        build_optimiser(tiny_policy("bc"), OptimiserOptions(part_lr={"vision": 0.0, "heads": 0.0}))


def test_parts_follow_the_schedule_together(make_recipe, recorded):
    path = make_recipe(
        epochs=2, optimiser={"lr": 1e-3, "part_lr": {"vision": 1e-4}}, schedule={"name": "cosine", "final_share": 0.5}
    )
    run = train(load_recipe(path), recorded()).parent
    groups = torch.load(run / "resume.pt", weights_only=True)["trainer"]["optimiser"]["param_groups"]
    rates = sorted({group["lr"] for group in groups})
    assert len(rates) == 2
    assert rates[1] == pytest.approx(10 * rates[0])


# --- memory and padding


def tiny_policy(name: str):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("variants", Path(__file__).parent / "conftest.py")
    variants = module_from_spec(spec)
    spec.loader.exec_module(variants)
    policy, keys, options = variants.VARIANTS[name]
    features = {
        FRONT: FeatureSpec(FRONT, "image", (16, 16, 3), "uint8", ("height", "width", "channels")),
        STATE: FeatureSpec(STATE, "vector", (4,), "float32", ("a", "b", "c", "d")),
        "goal.image": FeatureSpec("goal.image", "image", (16, 16, 3), "uint8", ("height", "width", "channels")),
    }
    action = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))
    torch.manual_seed(0)
    inputs = {key: features[key] for key in keys}
    return build_policy(policy, {"inputs": inputs, "action": action, "action_horizon": 3, **options})


def loss_and_gradients(policy, batch):
    policy.zero_grad()
    torch.manual_seed(1)
    saved = []
    pack = lambda tensor: saved.append(tensor.numel()) or tensor
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = policy.compute_loss(batch, torch.Generator().manual_seed(2)).loss
    loss.backward()
    gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, sum(saved)


@pytest.mark.parametrize("name", ["act", "grp", "pi0", "rt1"])
def test_checkpointed_blocks_give_the_same_gradients_and_keep_less(name):
    policy = tiny_policy(name).train()
    batch = make_example_batch(policy.config, 3)
    loss, gradients, kept = loss_and_gradients(policy, batch)
    assert enable_gradient_checkpointing(policy) > 0
    again, same, kept_less = loss_and_gradients(policy, batch)
    assert torch.equal(loss, again)
    assert gradients.keys() == same.keys()
    assert all(torch.allclose(value, same[key], atol=1e-7) for key, value in gradients.items())
    assert kept_less < kept
    assert enable_gradient_checkpointing(policy) == 0


def test_checkpointing_of_a_policy_without_blocks_is_refused(make_recipe, recorded):
    with pytest.raises(ConfigError, match="policy bc has no blocks to checkpoint"):
        train(load_recipe(make_recipe(gradient_checkpointing=True)), recorded())


@pytest.mark.parametrize("name", ["bc", "bc_gru", "act", "act_cvae", "grp", "pi0", "flow_ar_flow", "rt1"])
def test_what_stands_in_padding_changes_nothing(name):
    policy = tiny_policy(name).train()
    batch = make_example_batch(policy.config, 3)
    steps = policy.config.n_obs_steps
    batch["is_pad"] = torch.arange(steps) < torch.tensor([[0], [steps // 2], [steps - 1]])
    batch["action_is_pad"] = torch.arange(3) >= torch.tensor([[3], [1], [2]])
    results = []
    for fill in (0.0, 7.0, float("nan")):
        changed = dict(batch)
        for key in policy.config.inputs:
            mask = batch["is_pad"].reshape(3, steps, *[1] * (batch[key].ndim - 2))
            changed[key] = batch[key].masked_fill(mask, fill)
        changed["action"] = batch["action"].masked_fill(batch["action_is_pad"][..., None], fill)
        if "past_action" in batch:
            changed["past_action"] = batch["past_action"].masked_fill(batch["is_pad"][:, :-1, None], fill)
        results.append(loss_and_gradients(policy, without_padded_values(changed, policy.config.inputs))[:2])
    loss, gradients = results[0]
    assert loss.isfinite()
    for other, others in results[1:]:
        assert torch.equal(loss, other)
        assert all(torch.equal(value, others[key]) for key, value in gradients.items())


# --- sentences


def test_an_instruction_longer_than_the_text_is_refused_before_training(make_recipe, recorded):
    options = {"width": 16, "depth": 1, "n_heads": 2, "text": {"length": 10}}
    recipe = load_recipe(make_recipe(policy={"name": "grp", "overrides": options}))
    with pytest.raises(
        ConfigError, match=r"'push the puck to the goal' has 25 characters, of which this policy reads 10"
    ):
        train(recipe, recorded())
    assert not Path(recipe.output).exists()


def test_keep_best_on_few_episodes_is_announced(make_recipe, recorded):
    sentence = "keep_best chooses weights by the loss on 1 episode, which is mostly chance"
    for keep_best, is_said in ((True, True), (False, False)):
        progress = recorded()
        train(load_recipe(make_recipe(epochs=1, keep_best=keep_best)), progress, overwrite=True)
        assert any(sentence in message for message in progress.messages) == is_said
