"""A run that was interrupted goes on as if it had not been, whatever it trains: to the bit."""

import json

import pytest
import torch
from safetensors.torch import load_file

from vla_ros.training import load_recipe, train

pytestmark = pytest.mark.slow


def state_of(run):
    """Return what training has moved so far: weights, their average, and what the optimiser remembers."""
    trainer = torch.load(run / "resume.pt", weights_only=True)["trainer"]
    remembered = {
        f"{index}.{name}": value
        for index, values in trainer["optimiser"]["state"].items()
        for name, value in values.items()
    }
    return trainer["policy"] | {f"average.{k}": v for k, v in trainer["average"].items()} | remembered


def metrics_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "wall_s"} for line in lines]


def assert_equal(left, right):
    assert left.keys() == right.keys()
    assert [name for name, value in left.items() if not torch.equal(value, right[name])] == []


def test_run_interrupted_within_an_epoch_ends_as_one_that_was_not(variant, make_recipe, recorded, tmp_path):
    path = make_recipe(**variant, epochs=2, keep_best=False, ema_decay=0.9)
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    train(load_recipe(path, [f"output={whole}"]), recorded())
    interrupted, resumed = recorded(interrupt_in_epoch=2), recorded()
    with pytest.raises(KeyboardInterrupt):
        train(load_recipe(path, [f"output={parts}"]), interrupted)
    train(load_recipe(path, [f"output={parts}"]), resumed, resume=True)
    assert (interrupted.steps, resumed.done_steps, resumed.total_steps) == ([6, 10], 6, 12)
    assert_equal(*(load_file(run / "checkpoint/model.safetensors") for run in (whole, parts)))
    assert_equal(*(state_of(run) for run in (whole, parts)))
    assert metrics_of(whole) == metrics_of(parts)
