import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[1] / "golden"

ADVICE = (
    "pi0 computes other numbers than before. If that was not meant, the change is wrong. If it was, run "
    "`make golden` and say in the commit why the numbers differ; checkpoints trained before the change no longer "
    "behave as measured."
)


@pytest.fixture(scope="module")
def computed():
    spec = importlib.util.spec_from_file_location("make_pi0", GOLDEN / "make_pi0.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.outputs()


def test_pi0_outputs_equal_the_golden_file(computed):
    golden = load_file(GOLDEN / "pi0.safetensors")
    assert set(computed) == set(golden), ADVICE
    for name, expected in golden.items():
        torch.testing.assert_close(
            computed[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}\n{ADVICE}"
        )


def test_pi0_golden_outputs_are_not_trivial(computed):
    for name, value in computed.items():
        assert value.isfinite().all(), name
        assert value.float().std() > 1e-2, name
