import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[1] / "golden"

ADVICE = (
    "flow_ar computes other numbers than before. If that was not meant, the change is wrong. If it was, run "
    "`make golden` and say in the commit why the numbers differ; checkpoints trained before the change no longer "
    "behave as measured."
)


@pytest.fixture(scope="module")
def computed():
    spec = importlib.util.spec_from_file_location("make_flow_ar", GOLDEN / "make_flow_ar.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.outputs()


def test_flow_ar_outputs_equal_the_golden_file(computed):
    golden = load_file(GOLDEN / "flow_ar.safetensors")
    assert set(computed) == set(golden), ADVICE
    for name, expected in golden.items():
        torch.testing.assert_close(
            computed[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}\n{ADVICE}"
        )


def test_flow_ar_golden_outputs_are_not_trivial(computed):
    for name, value in computed.items():
        assert value.isfinite().all(), name
        assert value.float().std() > 1e-2, name
