"""Every command of README.md and docs/ is one that exists, with options, arguments and files that exist."""

import argparse
import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from page_commands import ROOT, Command, all_commands, check_part

from vla_ros.cli.main import parser as vla_ros_parser

GIVEN = {  # what a page takes as given: its reader's own files, or those of another page
    "docs/add_a_message_type.md": ("rover.yaml", "rover_bc.yaml", "bags"),
    "docs/add_a_policy.md": ("my_policy.yaml", "data/metaworld_push"),
    "docs/add_a_robot.md": ("my_robot.yaml", "bags"),
    "docs/add_a_simulator.md": ("pusht.yaml",),
    "docs/add_a_sink.md": ("gamepad_rover.yaml",),
    "docs/add_an_encoder.md": ("my_encoder.yaml", "data/metaworld_push"),
    "docs/add_a_sensor.md": ("my_sensor.yaml", "data/metaworld_push"),
    "docs/checkpoints.md": ("DIR", "FILE"),
    "docs/conversion.md": ("my_robot.yaml", "bags"),
    "docs/datasets.md": ("data/metaworld_push", "data/part", "DATASET"),
    "docs/results.md": ("out/train/metaworld_push_",),  # NAME of its table
}
FILES = ("bag", "bags", "checkpoint", "contract", "dataset", "folder", "file", "options", "recipe", "sim_config")
"""Arguments of vla_ros that name what must be there."""


def of(*programs: str, whole: bool = True) -> list[Command]:
    return [command for command in all_commands() if command.program in programs and (command.whole or not whole)]


def parsed(command: Command) -> argparse.Namespace:
    """Parse with the real parser.

    Raises:
        SystemExit: It is no command; argparse has said why.
    """
    return vla_ros_parser().parse_args(command.words[1:])


@pytest.mark.parametrize("command", of("vla_ros"), ids=str)
def test_a_command_in_a_block_is_accepted_as_it_stands(command: Command) -> None:
    assert parsed(command).run


@pytest.mark.parametrize("command", of("vla_ros", whole=False), ids=str)
def test_a_command_in_running_text_names_options_that_exist(command: Command) -> None:
    check_part(vla_ros_parser(), command.words[1:])


def test_what_is_no_command_is_noticed() -> None:
    for words in (["rollouts"], ["rollout", "--episode-count", "3"], ["contract", "chekc", "FILE"], ["parts", "--all"]):
        with pytest.raises(ValueError, match="has no"):
            check_part(vla_ros_parser(), words)


def test_a_file_that_a_command_names_ships_or_is_made_by_an_earlier_one() -> None:
    made: dict[str, list[str]] = {}
    for command in of("vla_ros"):
        known = made.setdefault(command.page, [])
        values = vars(parsed(command))
        for name in FILES:
            value = values.get(name)
            if isinstance(value, str):
                there = (ROOT / value).exists() or bool(list(ROOT.glob(value.replace("NAME", "*"))))
                begins = (*known, *GIVEN.get(command.page, ()))
                assert there or value.startswith(begins), f"{command}: nothing makes {value}"
        settings = dict(setting.split("=", 1) for setting in values.get("overrides") or [])
        if "recipe" in values:
            known.append(settings.get("output") or recipe_output(values["recipe"]))
        if values.get("output"):
            known.append(values["output"])


def recipe_output(recipe: str) -> str:
    """Return the folder that a recipe trains into."""
    if not (ROOT / recipe).is_file():
        return "out/"  # the page writes the recipe
    while True:
        content = yaml.safe_load((ROOT / recipe).read_text())
        if "output" in content:
            return str(content["output"])
        recipe = str(Path(recipe).parent / content["extends"])


@pytest.mark.parametrize("command", [c for c in of("vla_ros") if c.words[1] == "train"], ids=str)
def test_the_settings_of_a_documented_training_run_are_fields_of_its_recipe(command: Command) -> None:
    pytest.importorskip("torch")
    from vla_ros.training import load_recipe

    arguments = parsed(command)
    for recipe in ROOT.glob(arguments.recipe.replace("NAME", "*")):
        assert load_recipe(str(recipe), arguments.overrides)


@pytest.mark.parametrize("command", of("make", whole=False), ids=str)
def test_a_target_of_make_exists(command: Command) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(command.words[1:]) <= set(targets)


@pytest.mark.parametrize("command", [c for c in of("python", whole=False) if "-m bench" in c.text], ids=str)
def test_a_command_of_the_benchmark_is_accepted(command: Command) -> None:
    from bench.__main__ import parser

    assert parser().parse_args(command.words[3:])


@pytest.fixture(scope="module")
def launch_files() -> ModuleType:
    """The script that reads the arguments of launch files."""
    spec = importlib.util.spec_from_file_location("launch_docs", ROOT / "scripts/generate_launch_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("command", [c for c in of("ros2", whole=False) if c.words[1] == "launch"], ids=str)
def test_a_launch_file_takes_the_arguments_given(command: Command, launch_files: ModuleType) -> None:
    words = [word for word in command.words[2:] if word not in ("FILE", "--show-args")]
    if not words[1:]:
        return
    package, file, *given = words
    arguments = launch_files.arguments_of(ROOT / "launch" / file)
    names = {word.split(":=")[0] for word in given}
    required = {argument.name for argument in arguments if argument.default is None}
    assert package == "vla_ros"
    assert names <= {argument.name for argument in arguments}
    assert required <= names or not command.whole


def node_names() -> dict[str, str]:
    """Return executable → name of every node of the launch files."""
    found = {}
    for path in (ROOT / "launch").glob("*.launch.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.endswith("Node"):
                given = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
                found[str(given["executable"])] = str(given["name"])
    return found


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Services and topics → type, of nodes that run under their launch files' names."""
    rclpy = pytest.importorskip("rclpy")
    pytest.importorskip("vla_ros_msgs.msg")
    from rclpy.parameter import Parameter

    from vla_ros.nodes.policy.policy_node import PolicyNode
    from vla_ros.nodes.recorder.bag_recorder_node import BagRecorderNode
    from vla_ros.rollouts.ros_environment import RosDomain

    domain, context, names = RosDomain(), rclpy.Context(), node_names()
    rclpy.init(context=context, domain_id=domain.number)

    def named(executable: str) -> dict[str, Any]:
        return {"context": context, "cli_args": ["--ros-args", "-r", f"__node:={names[executable]}"]}

    contract = Parameter("contract", value=str(ROOT / "config/robots/metaworld_sawyer.yaml"))
    output = Parameter("output", value=str(tmp_path_factory.mktemp("bags")))
    recorder = BagRecorderNode(**named("bag_recorder_node"), parameter_overrides=[contract, output])
    nodes = [recorder, PolicyNode(**named("policy_node"))]
    services = {node.resolve_service_name(s.srv_name): s.srv_type for node in nodes for s in node.services}
    topics = {p.topic_name: p.msg_type for node in nodes for p in node.publishers}
    yield services | topics
    for node in nodes:
        node.close()
    recorder.destroy_node()
    context.try_shutdown()
    domain.release()


def ros_name(kind: Any) -> str:
    package, interface, *_ = kind.__module__.split(".")
    return f"{package}/{interface}/{kind.__name__}"


@pytest.mark.ros
def test_a_service_that_is_called_is_offered_with_that_type_and_those_fields(offered: dict[str, Any]) -> None:
    calls = [command.words[3:] for command in of("ros2", whole=False) if command.words[1:3] == ["service", "call"]]
    assert len(calls) >= 3
    for name, type_name, *request in calls:
        assert name in offered
        assert ros_name(offered[name]) == type_name
        fields = yaml.safe_load(request[0]) if request else {}
        assert set(fields) <= set(offered[name].Request.get_fields_and_field_types())


@pytest.mark.ros
def test_a_name_below_one_of_our_nodes_is_offered_by_it(offered: dict[str, Any]) -> None:
    ours = "|".join(sorted({f"{name}(?:_node)?" for name in ("policy_node", "bag_recorder")}))
    named = set()
    for page in sorted((ROOT / "docs").glob("*.md")):
        named |= set(re.findall(rf"(?<![\w.])/(?:{ours})/[a-z_]+", page.read_text(encoding="utf-8")))
    assert named
    assert named <= set(offered)


def test_ros2_is_used_for_nothing_that_is_not_checked() -> None:
    assert {tuple(c.words[1:3])[: 1 if c.words[1] == "launch" else 2] for c in of("ros2", whole=False)} == {
        ("launch",), ("service", "call")
    }  # fmt: skip
