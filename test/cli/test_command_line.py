import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_ros.cli import console
from vla_ros.cli import main as main_module
from vla_ros.cli.convert import find_bags
from vla_ros.cli.main import COMMANDS, main
from vla_ros.data_types import DatasetError, UserError

CONTRACT = "config/robots/metaworld_sawyer.yaml"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def run_with(monkeypatch: pytest.MonkeyPatch, behaviour: Callable[[], int]) -> int:
    """Exit code of `main` when a command does what `behaviour` does."""
    monkeypatch.setattr("vla_ros.cli.contract.run_check", lambda _: behaviour())
    return main(["contract", "check", "x.yaml"])


def raising(error: BaseException) -> Callable[[], int]:
    def behave() -> int:
        raise error

    return behave


def test_a_user_error_is_one_line_on_stderr_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, raising(UserError("It is\nbroken."))) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: It is broken.\n"
    assert printed.out == ""


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with(monkeypatch, raising(KeyboardInterrupt())) == 130


def test_missing_ros_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ModuleNotFoundError("No module named 'rclpy'", name="rclpy")
    assert run_with(monkeypatch, raising(missing)) == 2
    assert "make setup" in capsys.readouterr().err


def test_unbuilt_interfaces_say_how_to_build_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ModuleNotFoundError("No module named 'vla_ros_msgs.msg'", name="vla_ros_msgs.msg")
    assert run_with(monkeypatch, raising(missing)) == 2
    assert "colcon build" in capsys.readouterr().err


def test_a_missing_module_that_is_no_part_of_ros_is_a_bug_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ModuleNotFoundError):
        run_with(monkeypatch, raising(ModuleNotFoundError("No module named 'vla_rso'", name="vla_rso")))


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run_with(monkeypatch, raising(ZeroDivisionError()))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        *[[command.__name__.rpartition(".")[2]] for command in COMMANDS],
        ["contract", "check"],
        ["policies", "describe"],
    ],
)
def test_every_command_has_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--help"])
    assert caught.value.code == 0
    assert "usage: vla_ros" in capsys.readouterr().out


def test_help_imports_neither_ros_nor_torch_nor_anything_slow() -> None:
    code = (
        "import sys\nfrom vla_ros.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'rclpy', 'torch', 'mujoco', 'cv2', 'rich', 'matplotlib'}\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rollout", "--episodes", "0"], "'0' is not a whole number of at least 1"),
        (["rollout", "--time-limit", "nan"], "'nan' is not a number above 0"),
        (["rollout", "--domain-id", "300"], "'300' is not a ROS domain id from 0 to 101"),
        (["demonstrate", "--output", "x", "--noise", "-1"], "'-1' is not a number of at least 0"),
        (["rolout"], "invalid choice: 'rolout'"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_expected(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_contract_check_accepts_the_shipped_robot(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "check", CONTRACT]) == 0
    assert "metaworld_sawyer" in capsys.readouterr().out


def test_contract_check_refuses_a_broken_one_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "robot.yaml"
    broken.write_text((ROOT / CONTRACT).read_text().replace("fps: 20", "fps: twenty"))
    assert main(["contract", "check", str(broken)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {broken}")
    assert "fps" in error
    assert error.count("\n") == 1


def test_contract_describe_names_every_topic(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "describe", CONTRACT]) == 0
    printed = capsys.readouterr().out
    assert all(
        topic in printed for topic in ("/camera/front/image_raw", "/end_effector/action", "/demonstration/action")
    )


def test_contract_describe_as_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "describe", CONTRACT, "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["fps"] == 20
    assert len(described["hash"]) == 16


def test_policies_list_names_bc(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", "list", "--json"]) == 0
    assert "bc" in [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_policies_describe_gives_types_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", "describe", "bc", "--json"]) == 0
    fields = {field["name"]: field for field in json.loads(capsys.readouterr().out)["config"]}
    assert fields["action_horizon"]["type"] == "int"
    assert "default" not in fields["inputs"]


def test_an_unknown_policy_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", "describe", "bcc"]) == 2
    assert "Did you mean 'bc'?" in capsys.readouterr().err


def test_a_missing_checkpoint_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "describe", str(tmp_path / "none")]) == 2
    assert "no such checkpoint folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rollout", "--checkpoint", "out/none"], "out/none: no such checkpoint folder"),
        (["rollout"], "--policy checkpoint needs --checkpoint DIR"),
        (["rollout", "--policy", "expert", "--checkpoint", "x"], "--checkpoint has no meaning with --policy expert"),
    ],
)
def test_rollout_refuses_a_checkpoint_that_is_missing_or_contradicts_the_driver(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_demonstrations_do_not_mix_with_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old").touch()
    assert main(["demonstrate", "--output", str(tmp_path)]) == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err


def test_train_without_its_recipe_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "config/training/none.yaml"]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_bags_are_found_by_name_in_a_folder_or_given_alone(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.yaml").touch()
    (tmp_path / "logs").mkdir()
    assert find_bags(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_bags(tmp_path / "b") == [tmp_path / "b"]


def test_a_folder_without_bags_says_what_a_bag_is(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no bag in it; expected folders with a metadata\.yaml"):
        find_bags(tmp_path)
    with pytest.raises(DatasetError, match="no such folder of bags"):
        find_bags(tmp_path / "none")


def test_outside_a_terminal_progress_is_a_line_per_step(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("episode", 2) as advance:
        advance("success after 3.1 s")
    assert capsys.readouterr().out == "episode 1/2: success after 3.1 s\n"


def test_on_a_terminal_tables_show_values_that_look_like_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    console.print_table("title", [("shape", "[red]")])
    assert "[red]" in capsys.readouterr().out


def test_the_error_type_of_every_layer_reaches_the_command_line() -> None:
    assert issubclass(DatasetError, UserError)
    parser: Any = main_module.parser()
    assert parser.prog == "vla_ros"
