#!/usr/bin/env python3
"""Write docs/launch.md: every launch file and its arguments, read from the files' syntax trees without running them."""

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "launch.md"

INTRODUCTION = """\
# Launch files

<!-- Written by scripts/generate_launch_docs.py (`make docs`). Edit the launch files, not this file. -->

For machines with a ROS installation, after `colcon build` and sourcing the workspace:

    ros2 launch vla_ros sim_demo.launch.py task:=push-v3
    ros2 launch vla_ros policy.launch.py contract:=my_robot.yaml checkpoint:=out/train/my_policy enable_control:=true

Launch files turn arguments into parameters and nodes and decide nothing. `ros2 launch vla_ros FILE --show-args` lists
the same arguments. A default in `<share>` lies in the package's share folder.
"""


class Argument(NamedTuple):
    """One declared argument; no default means that it must be given."""

    name: str
    default: str | None
    description: str


def arguments_of(path: Path) -> list[Argument]:
    """Return the arguments that a launch file declares itself, in its order.

    Raises:
        SystemExit: One of them has no description.
    """
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "DeclareLaunchArgument":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name = ast.literal_eval(node.args[0])
            if "description" not in given:
                raise SystemExit(f"{path.name}: argument '{name}' has no description")
            default = _default(given["default_value"]) if "default_value" in given else None
            found.append(Argument(name, default, ast.literal_eval(given["description"])))
    return found


def _default(value: ast.expr) -> str:
    """Return a default as a reader would write it."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.List):  # launch joins the parts
        return "".join(map(_part, value.elts))
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "PathJoinSubstitution"):
        raise SystemExit(f"cannot describe the default {ast.unparse(value)}")
    share, *parts = ast.literal_eval(
        ast.unparse(value.args[0]).replace("FindPackageShare('vla_ros')", "'share'").replace("[share,", "['share',")
    )
    return "/".join([f"<{share}>", *parts])


def _part(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.Name):
        return f"<{value.id}>"
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "LaunchConfiguration":
        return f"<{ast.literal_eval(value.args[0])}>"
    raise SystemExit(f"cannot describe the default {ast.unparse(value)}")


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for path in sorted((ROOT / "launch").glob("*.launch.py")):
        summary = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines = [f"## {path.name}", "", summary, "", "| argument | default | meaning |", "|---|---|---|"]
        for name, default, description in arguments_of(path):
            shown = "required" if default is None else f"`{default}`" if default else "empty"
            lines.append(f"| `{name}` | {shown} | {description} |")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
