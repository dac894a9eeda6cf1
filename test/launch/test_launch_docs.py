"""docs/launch.md names the arguments that the launch files declare. Reads their syntax only."""

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_launch_docs", ROOT / "scripts" / "generate_launch_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_launch_reference_is_up_to_date(generator: ModuleType) -> None:
    assert generator.TARGET.read_text(encoding="utf-8") == generator.render(), "run `make docs`"


@pytest.mark.parametrize("name", ["policy", "record", "replay_evaluation", "sim_demo"])
def test_the_launch_file_is_there(name: str) -> None:
    assert (ROOT / "launch" / f"{name}.launch.py").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_argument_is_declared_where_it_is_used_and_used_where_it_is_declared(
    path: Path, generator: ModuleType
) -> None:
    text = path.read_text(encoding="utf-8")
    declared = {argument.name for argument in generator.arguments_of(path)}
    used = set(re.findall(r'LaunchConfiguration\("(\w+)"\)', text))
    if "LaunchConfiguration(name)" in text:
        used |= declared
    assert used == declared


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_decides_nothing(path: Path) -> None:
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == ["generate_launch_description"]
    assert not [node for node in ast.walk(functions[0]) if isinstance(node, (ast.If, ast.For, ast.While, ast.Try))]
