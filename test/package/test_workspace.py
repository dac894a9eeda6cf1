"""A colcon workspace in the environment of the wheels, without a variable set by hand."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BASE = ("--base-paths", "src/vla_ros", "src/vla_ros/vla_ros_msgs")
SET_BY_HAND = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH", "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def announcement() -> ModuleType:
    """The part of the environment that tells ROS tools where they are."""
    spec = importlib.util.spec_from_file_location("announcement", ROOT / "scripts/ros_wheels_environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = dict(os.environ)
    spec.loader.exec_module(module)
    os.environ.clear()
    os.environ.update(before)
    return module


def test_an_environment_is_a_ros_prefix_after_those_that_are_sourced(announcement: ModuleType) -> None:
    variables = {"AMENT_PREFIX_PATH": "/ws/install/vla_ros"}
    for _ in range(2):  # a Python that another one starts finds it done
        announcement.announce("/env", variables)
        assert variables == {"AMENT_PREFIX_PATH": f"/ws/install/vla_ros{os.pathsep}/env", "VIRTUAL_ENV": "/env"}


def test_a_sourced_ros_installation_is_left_alone(announcement: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "share/rclpy").mkdir(parents=True)
    (tmp_path / "share/rclpy/package.xml").touch()
    variables = {"AMENT_PREFIX_PATH": str(tmp_path)}
    announcement.announce("/env", variables)
    assert variables == {"AMENT_PREFIX_PATH": str(tmp_path)}


def colcon(workspace: Path, *arguments: str) -> str:
    """Run colcon of this environment, which is not activated."""
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_HAND}
    environment["PATH"] = os.pathsep.join(p for p in environment["PATH"].split(os.pathsep) if sys.prefix not in p)
    done = subprocess.run(
        [str(Path(sys.prefix, "bin/colcon")), *arguments],
        cwd=workspace, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fresh_workspace_builds_and_runs_tests(tmp_path: Path) -> None:
    pytest.importorskip("colcon_core")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/vla_ros").symlink_to(ROOT)
    assert "vla_ros_msgs" in colcon(tmp_path, "list", *BASE)
    colcon(tmp_path, "build", *BASE, "--executor", "sequential")
    colcon(tmp_path, "test", *BASE, "--pytest-args", "test/data_types")
    assert "0 errors, 0 failures" in colcon(tmp_path, "test-result", "--all")

    install = tmp_path / "install"
    node = install / "vla_ros/lib/vla_ros/policy_node"
    assert node.read_text().splitlines()[0] == f"#!{sys.executable}"
    share = install / "vla_ros/share/vla_ros"
    for folder in ("launch", "config", "models"):
        assert files_below(share / folder) == files_below(ROOT / folder)
    script = "from vla_ros_msgs.msg import ActionChunk; import vla_ros; print(vla_ros.__file__)"
    lines = f"source {install}/setup.bash && {sys.executable} -c '{script}'"
    done = subprocess.run(["bash", "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(install)), done.stderr


def files_below(folder: Path) -> set[Path]:
    return {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
