"""Half the digits are enough for every architecture."""

import math

import torch
from safetensors.torch import load_file

from vla_ros.training import load_recipe, train


def test_two_steps_in_bf16_have_finite_losses_and_leave_weights_in_full_precision(variant, make_recipe, recorded):
    progress = recorded()
    path = make_recipe(**variant, epochs=None, steps=2, precision="bf16")
    weights = load_file(train(load_recipe(path), progress) / "model.safetensors")
    (report,) = progress.reports
    assert all(map(math.isfinite, [report.train_loss, report.validation_loss, *report.action_error.values()]))
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
