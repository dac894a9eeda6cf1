"""What must be importable where ROS, or torch, is not installed. The imports run in processes in which they are not."""

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

from vla_ros.data_types.ros_packages import ROS_PACKAGES

ROOT = Path(__file__).resolve().parents[1]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
BLOCK = """
import importlib, importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for module in {modules!r}:
    importlib.import_module(module)
found = sorted(name for name in {blocked!r} if name in sys.modules)
assert not found, found
"""


# In order of the layers, so that a failure names the lowest one at fault.
WITHOUT_ROS_AND_TORCH = (
    "vla_ros.data_types",
    "vla_ros.schema",
    "vla_ros.registry",
    "vla_ros.contract",
    "vla_ros.resampling",
    "vla_ros.messages",
    "vla_ros.datasets",
    "vla_ros.safety",
    "vla_ros.streams",
    "vla_ros.bags",
    "vla_ros.converters",
    "vla_ros.cli.main",
)
WITHOUT_ROS = (
    "vla_ros.policies",
    "vla_ros.policies.bc.policy",
    "vla_ros.checkpoint",
    "vla_ros.runtime.policy_runner",
    "vla_ros.training",
    "vla_ros.evaluation.replay",
)


def import_without(modules: tuple[str, ...], absent: tuple[str, ...]) -> None:
    code = BLOCK.format(modules=modules, blocked=set(absent))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_policies_are_imported_trained_and_replayed_without_ros() -> None:
    import_without(WITHOUT_ROS, ROS_PACKAGES)


def test_bags_are_converted_without_ros_and_torch() -> None:
    import_without(WITHOUT_ROS_AND_TORCH, ("torch", "torchvision", *ROS_PACKAGES))


def test_the_block_blocks() -> None:
    with pytest.raises(AssertionError, match="No module named 'yaml'"):
        import_without(("vla_ros.contract",), ("yaml",))


def test_ruff_and_import_linter_ban_the_packages_of_the_list() -> None:
    (contract,) = (c for c in TOOLS["importlinter"]["contracts"] if c["name"].startswith("ROS stays"))
    assert tuple(contract["forbidden_modules"]) == ROS_PACKAGES
    assert tuple(TOOLS["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]) == ROS_PACKAGES
