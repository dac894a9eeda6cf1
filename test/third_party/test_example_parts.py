"""A package of somebody else adds one part of every kind, and nothing in this repository knows of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch")

from vla_ros.checkpoint import load_checkpoint
from vla_ros.data_types import CheckpointError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
POLICY = {
    "name": "example_mix",
    "overrides": {
        "backbone": "example_edges",
        "pooling": "example_max",
        "head": "example_linear",
        "objective": "example_huber",
        "text": {"kind": "example_words", "length": 4, "vocabulary_size": 50},
        "action_horizon": 4,
        "n_action_steps": 2,
    },
}
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Install the package where nothing else is, without a network, and run Python with it."""
    folder = tmp_path_factory.mktemp("third_party")
    source = shutil.copytree(HERE / "example_parts", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(source)], check=True, capture_output=True, text=True)
    path = os.pathsep.join([str(folder / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")])

    def ran(*arguments: object, fails: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    return ran


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of the foreign simulator, and a recipe that names a foreign part wherever there is a name."""
    folder = tmp_path_factory.mktemp("stage")
    run(HERE / "stage_data.py", folder)
    recipe = {
        "output": str(folder / "out"),
        "dataset": {"root": str(folder / "data"), "validation_fraction": 0.25},
        "inputs": ["observation.images.top", "observation.state", "observation.light"],
        "policy": POLICY,
        "processors": [{"name": "example_whiten", "options": {"smallest": 1e-4}}],
        "steps": 4,
        "batch_size": 8,
        "threads": 1,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def checkpoint(run: Run, folder: Path) -> Path:
    """Train it, and an RT-1 with a foreign trunk; in one process, which spares importing torch again."""
    options = {"trunk": "example_trunk", "text": None, "grid": None, "token_dim": 16, "tokens_per_image": 2, "depth": 1}
    options |= {"n_heads": 2, "mlp_dim": 16, "bins": 16, "n_obs_steps": 2}
    policy = f"policy={json.dumps({'name': 'rt1', 'overrides': options})}"
    train = ["train", str(folder / "recipe.yaml")]
    settings = [policy, "processors=[]", f"output={folder / 'rt1'}", "steps=1"]
    commands(run, train, [*train, *(word for setting in settings for word in ("--set", setting))])
    return folder / "out/checkpoint"


def commands(run: Run, *lines: list[str]) -> None:
    """Run commands of vla_ros, one after the other, in one process."""
    run("-c", f"from vla_ros.cli.main import main\nfor line in {lines!r}: assert main(line) == 0, line")


def test_the_checkpoint_says_which_package_provides_its_parts(checkpoint: Path) -> None:
    parts = json.loads((checkpoint / "metadata.json").read_text())["parts"]
    assert {(part["kind"], part["name"]) for part in parts} == {
        ("policies", "example_mix"),
        ("encoders", "example_edges"),
        ("poolings", "example_max"),
        ("heads", "example_linear"),
        ("objectives", "example_huber"),
        ("text_models", "example_words"),
        ("processors", "example_whiten"),
    }
    assert {(part["package"], part["version"]) for part in parts} == {("example-parts", "1.2.0")}


def test_a_fresh_process_runs_it_with_every_inference_backend_alike(run: Run, checkpoint: Path) -> None:
    answer = json.loads(run(HERE / "run_in_node_runtime.py", checkpoint).stdout.splitlines()[-1])
    assert answer["predictors"] == {
        "example_eager": "CountingPredictor",
        "process": "ProcessPredictor",
        "thread": "TorchPredictor",
    }
    one, *others = answer["chunks"].values()
    assert len(one) == 4
    assert all(other == one for other in others)


def test_it_drives_the_foreign_simulator(run: Run, checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    line = ["rollout", "--in-process", "--sim", "example_stage", "--contract", str(folder / "stage.yaml")]
    line += ["--episodes", "2", "--time-limit", "2"]
    drivers = {"policy": ["--checkpoint", str(checkpoint)], "expert": ["--policy", "expert"]}
    commands(run, *([*line, *driver, "--output", str(tmp_path / name)] for name, driver in drivers.items()))
    policy, expert = (json.loads((tmp_path / name / "result.json").read_text()) for name in drivers)
    assert (policy["robot"], policy["task"], policy["episodes"]) == ("example_stage", "reach", 2)
    assert expert["successes"] == 2


def test_a_command_leaves_as_the_foreign_message(run: Run, folder: Path) -> None:
    pytest.importorskip("rclpy")
    code = (
        "import numpy as np\n"
        "from vla_ros.contract import load_contract\nfrom vla_ros.data_types import Command\n"
        "from vla_ros.messages.encoders import encode_command\n"
        f"contract = load_contract({str(folder / 'stage.yaml')!r})\n"
        "message = encode_command(contract.action.sinks[0], contract, Command(np.array([0.5, 0.25]), 0, 1))\n"
        "print(type(message).__name__, message.x, message.y)"
    )
    assert run("-c", code).stdout.splitlines()[-1] == "Pose2D 0.5 0.25"


def test_a_foreign_trunk_serves_rt1(checkpoint: Path, folder: Path) -> None:
    (part,) = json.loads((folder / "rt1/checkpoint/metadata.json").read_text())["parts"]
    assert (part["kind"], part["name"]) == ("film_trunks", "example_trunk")


def test_the_command_line_lists_the_parts_with_their_package(run: Run) -> None:
    listed = run("-m", "vla_ros.cli", "parts", "--check").stdout
    for name in (
        "example_mix",
        "example_edges",
        "example_eager",
        "example_stage",
        "example_words",
        "example_whiten",
        "Illuminance",
    ):
        assert any(name in line and "example-parts 1.2.0" in line for line in listed.splitlines()), listed


def test_without_the_package_the_checkpoint_names_it(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"uses the policy 'example_mix' of example-parts 1\.2\.0, which is not"):
        load_checkpoint(checkpoint)
