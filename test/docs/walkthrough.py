"""A page of docs/ as somebody follows it: its files are written as they stand there, its commands are run in order."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|yaml|toml|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml|toml))\n")
_PIP = '"$PYTHON" -m pip --quiet install --no-index --no-deps --no-build-isolation --target "$SITE" --upgrade "${@:2}"'
COMMANDS = {"python": '"$PYTHON" "$@"', "vla_ros": '"$PYTHON" -m vla_ros.cli "$@"', "pip": _PIP}
"""What the page's commands are here: pip installs into a folder of the test's own, and asks no network."""


def follow(page: str, folder: Path) -> str:
    """Follow a page in a folder.

    Args:
        page: Name of a file in docs.
        folder: Where it begins; what the page takes as given is there.

    Returns:
        What its commands printed.
    """
    printed = []
    for language, content in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        named = FILE.match(content)
        if language == "bash":
            printed.append(run_lines(content, folder))
        else:
            assert named, f"{page}: a block of {language} does not begin with the name of its file"
            path = folder / named.group(1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return "\n".join(printed)


def python_path(folder: Path) -> str:
    """Return the PYTHONPATH with what the page has installed."""
    return os.pathsep.join([str(folder / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")])


def run_lines(lines: str, folder: Path) -> str:
    """Run lines of a shell in a folder, and return what they printed; the first one that fails ends it."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for name, command in COMMANDS.items():
        (tools / name).write_text(f"#!/bin/bash\nexec {command}\n")
        (tools / name).chmod(stat.S_IRWXU)
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SITE": str(folder / "site"),
        "PYTHONPATH": python_path(folder),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", lines], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"
    return done.stdout
