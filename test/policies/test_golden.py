import importlib.util
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.safetensors") if (GOLDEN / f"make_{path.stem}.py").is_file())

ADVICE = (
    "{name} computes other numbers. If that was not meant, the change is wrong. If it was, run `make golden` "
    "and say in the commit why the numbers differ; checkpoints trained before no longer behave as measured."
)

LEAST_STD = {"pi0": 1e-2, "flow_ar": 1e-2}


@cache
def computed(name):
    spec = importlib.util.spec_from_file_location(f"make_{name}", GOLDEN / f"make_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.outputs()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_the_golden_file(name):
    golden, advice = load_file(GOLDEN / f"{name}.safetensors"), ADVICE.format(name=name)
    assert set(computed(name)) == set(golden), advice
    for key, expected in golden.items():
        torch.testing.assert_close(
            computed(name)[key], expected, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}\n{advice}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_golden_outputs_are_not_trivial(name):
    for key, value in computed(name).items():
        assert value.isfinite().all(), key
        if value.numel() > 1:  # a loss is a single number
            assert value.float().std() > LEAST_STD.get(name, 1e-3), key
