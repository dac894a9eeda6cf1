"""Every command of README.md and docs/ is run by a test, or stands here with the reason why it is not.

Recording, training and driving are run as they stand but for their length.
"""

import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
from page_commands import ROOT, Command, all_commands
from walkthrough import run_lines

from vla_ros.cli.main import main

FOLLOWED = ("add_a_policy", "add_an_encoder", "add_a_sensor", "add_a_simulator", "add_a_message_type", "add_a_sink")
"""Pages whose blocks of bash the walk-throughs run."""

RUN = (
    "README.md",
    "docs/usage.md",
    "docs/training_recipes.md",
    "docs/simulated_robot.md",
    "docs/checkpoints.md",
    "docs/conversion.md",
    "docs/datasets.md",
    "docs/add_a_robot.md",
)
"""Pages whose vla_ros commands are run here, one page after the other; what an earlier page ran is not run again."""

SHORTER = {
    "--set epochs=30": "--set epochs=1 --set dataset.validation_fraction=0.5",
    "--episodes 100 --time-limit 26": "--episodes 1 --time-limit 26",
    "--episodes 160": "--episodes 2",
    "--episodes 100": "--episodes 1 --time-limit 2",
    "train config/training/metaworld_push_bc.yaml": (
        "train config/training/metaworld_push_bc.yaml --set epochs=1 --set dataset.validation_fraction=0.5"
    ),
    "episode_000042": "episode_000001",
    "--checkpoint out/train/my_robot/checkpoint --dataset": (
        "--windows 4 --checkpoint out/train/my_robot/checkpoint --dataset"
    ),
}
"""Part of a command → what it is for the test."""

QUICK = (
    "vla_ros contract check FILE",
    "vla_ros schema contract",
    "vla_ros schema my_policy",
    "vla_ros parts",
    "vla_ros checkpoint seal DIR",
    "vla_ros schema NAME --output FILE",
)
"""Whole commands in running text that are run as well, with NAME for the first name that there is."""

NOT_RUN = {
    "apt-get": "changes the machine",
    "cd": "has no effect alone",
    "colcon": "test/package runs it in a workspace of its own",
    "git": "needs the repository's address",
    "ln": "test/package makes that workspace",
    "make": "sets up the environment that the tests run in; the targets are checked by name",
    "mkdir": "test/package makes that workspace",
    "pip": "takes packages from the network",
    "python": "the benchmark takes minutes; its options are checked, test/bench runs its cases",
    "python3": "a ROS installation's environment",
    "ros2": "comes with a ROS installation; files, arguments, names and types are checked",
    "rosdep": "comes with a ROS installation",
    "source": "sets variables of a shell; test/package sources a workspace",
    "touch": "a ROS installation's environment",
}
"""Program → why none of its commands outside the followed pages is run."""

NOT_RUN_PAGES = {"docs/results.md": "hours: the commands of README.md with the numbers that were measured"}
ELSEWHERE = {
    "vla_ros policies describe rt1_small": "test/cli/test_policies_command.py compares what it prints",
    "vla_ros checkpoint select DIR --robot NAME --output DIR2": "needs a checkpoint of two robots: test/training",
}


def is_followed(command: Command) -> bool:
    return Path(command.page).stem in FOLLOWED


def test_every_command_of_a_block_is_run_or_has_a_reason() -> None:
    left = [
        command
        for command in all_commands()
        if command.whole
        and not is_followed(command)
        and not (command.program == "vla_ros" and command.page in RUN)
        and command.program not in NOT_RUN
        and command.page not in NOT_RUN_PAGES
        and command.text not in ELSEWHERE
    ]
    assert left == []


def test_no_reason_is_left_over() -> None:
    others = [command for command in all_commands() if not is_followed(command)]
    assert set(NOT_RUN) <= {command.program for command in others}
    assert set(NOT_RUN_PAGES) <= {command.page for command in others}
    texts = {command.text for command in all_commands()}
    assert set(ELSEWHERE) <= texts
    assert set(QUICK) <= texts
    whole = " ".join(command.text for command in others if command.page in RUN)
    assert all(part in whole for part in SHORTER)


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.egl
@pytest.mark.timeout(600)
def test_the_commands_of_the_pages_run_one_after_the_other(tmp_path: Path) -> None:
    for folder in ("config", "models"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    shutil.copytree(ROOT / "models/metaworld_push_bc", tmp_path / "DIR")
    for name in ("FILE", "my_robot.yaml"):
        shutil.copy(ROOT / "config/robots/metaworld_sawyer.yaml", tmp_path / name)
    (tmp_path / "bags").symlink_to("data/metaworld_push_bags")  # of README.md
    ran: set[str] = set()
    for page in RUN:
        for command in all_commands():
            if command.text in ran or command.text in ELSEWHERE:
                continue
            if (command.page, command.program, command.whole) == (page, "vla_ros", True):
                ran.add(command.text)
                if command.words[1] == "convert":  # the pages' conversions of the same bags are alternatives
                    shutil.rmtree(tmp_path / command.words[command.words.index("--output") + 1], ignore_errors=True)
                run_lines(shortened(command), tmp_path)
    assert (tmp_path / "out/rollout/result.json").is_file()
    for path in ("out/replay", "out/importance", "out/train/my_robot/checkpoint"):
        assert any((tmp_path / path).iterdir())


def shortened(command: Command) -> str:
    text = command.text
    for part, shorter in SHORTER.items():
        text = text.replace(part, shorter)
    return text


def test_the_quick_commands_of_running_text_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "config/robots/metaworld_sawyer.yaml", tmp_path / "FILE")
    shutil.copytree(ROOT / "models/metaworld_push_bc", tmp_path / "DIR")
    monkeypatch.chdir(tmp_path)
    for text in QUICK:
        assert main(text.replace("NAME", "recipe").replace("my_policy", "bc").split()[1:]) == 0
