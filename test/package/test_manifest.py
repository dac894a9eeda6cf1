"""package.xml names what the code imports; what rosdep has no key for is documented."""

import ast
import re
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

from vla_ros.processors.text_models import MINILM_PACKAGE

ROOT = Path(__file__).parents[2]
BY_NAME = re.compile(r"(?:import_module|find_spec)\(\"(\w+)")
ROW = re.compile(r"^\| `(\w+)` \| ([\w-]+) \|", re.MULTILINE)

NOT_IMPORTED = {
    "lifecycle_msgs": "rclpy's lifecycle nodes speak it",
    "ros2launch": "`ros2 launch` itself",
}


def documented() -> dict[str, str]:
    """Return import → rosdep key of docs/install.md, ``none`` where there is none."""
    return dict(ROW.findall((ROOT / "docs/install.md").read_text(encoding="utf-8")))


def declared(package: str = ".", *tags: str) -> set[str]:
    manifest = ET.parse(ROOT / package / "package.xml").getroot()  # noqa: S314  # our own file
    return {entry.text or "" for tag in tags or ("depend", "exec_depend") for entry in manifest.findall(tag)}


@cache
def imported() -> dict[str, str]:
    """Return every package that vla_ros/ and launch/ import, but for Python's and their own, and where."""
    found: dict[str, str] = {}
    for file in (file for folder in ("vla_ros", "launch") for file in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
            for name in names:
                found.setdefault(name.partition(".")[0], str(file.relative_to(ROOT)))
    return {name: where for name, where in found.items() if name not in {*sys.stdlib_module_names, "vla_ros"}}


def ros_packages() -> dict[str, str]:
    """Return the packages imported that are ROS's: those without a row, and those whose messages are found by name."""
    rows = (ROOT / "vla_ros/messages/types").glob("[!_]*.py")  # a file per package, whose classes are found by name
    others = {name: where for name, where in imported().items() if name not in documented()}
    return {file.stem: str(file) for file in rows} | others


def test_every_import_is_declared_in_package_xml_or_documented_as_pips_own() -> None:
    keys = documented()
    missing = {name: where for name, where in ros_packages().items() if name not in declared()}
    assert not missing, "neither in package.xml nor in the table of docs/install.md"
    wanted = {keys[name] for name in imported() if name in keys} - {"none"}
    assert wanted <= declared()


def test_package_xml_and_the_table_name_nothing_that_is_not_imported() -> None:
    assert set(documented()) <= set(imported())
    keys = set(documented().values())
    assert declared() - keys - set(ros_packages()) == set(NOT_IMPORTED)


def test_what_rosdep_has_no_key_for_is_in_the_part_of_requirements_that_pip_installs() -> None:
    text = (ROOT / "requirements.in").read_text(encoding="utf-8")
    parts = "".join(re.findall(r"^# \[(?:runtime|simulation)\].*?(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL))
    installed = set(re.findall(r"^([\w-]+)", parts, re.MULTILINE))
    assert {name for name, key in documented().items() if key == "none"} <= installed


def test_a_package_that_is_imported_by_name_is_declared_or_documented_as_optional() -> None:
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8").partition("Only imported where")[2]
    texts = (file.read_text(encoding="utf-8") for file in (ROOT / "vla_ros").rglob("*.py"))
    by_name = {name for text in texts for name in BY_NAME.findall(text)} | {MINILM_PACKAGE}
    assert by_name - declared() == set(re.findall(r"`(\w+)`", page))


def test_rosdep_is_told_to_skip_every_key_that_stands_for_pip() -> None:
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    skipped = set(re.findall(r'--skip-keys "([^"]+)"', page)[0].split())
    keys = declared(".", "depend", "exec_depend", "test_depend")
    assert skipped <= keys
    assert {key for key in keys if key.endswith("-pip")} <= skipped


def test_the_interfaces_declare_the_packages_that_they_are_built_from() -> None:
    cmake = (ROOT / "vla_ros_msgs/CMakeLists.txt").read_text(encoding="utf-8")
    found = set(re.findall(r"find_package\((\w+) REQUIRED\)", cmake))
    assert found <= declared("vla_ros_msgs", "depend", "buildtool_depend")
    fields = "\n".join(file.read_text() for file in (ROOT / "vla_ros_msgs").rglob("*.[ms][sr][gv]"))
    used = set(re.findall(r"^(\w+)/\w+", fields, re.MULTILINE))
    assert used
    assert used <= declared("vla_ros_msgs", "depend")
