#!/usr/bin/env python3
"""Build the development environment in .venv: ROS 2 from wheels, the generated interfaces, this package.

Standard library only, since it runs before anything is installed. Each step leaves a stamp made of what it
depends on, so a second call does nothing and a changed message file rebuilds only the interfaces.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BUILD = VENV / "build"
HOOKS = tuple(ROOT / "scripts" / name for name in ("ros_wheels_environment.py", "torchvision_schemas.py"))
"""Copied into .venv and imported at every start of its Python; each says why."""
SUPPORTED = ((3, 10), (3, 11), (3, 12))

# The wheels' exported CMake targets name the folders of the machine that built them.
BUILDER_PYTHON_INCLUDE = "/opt/python/cp311-cp311/include/python3.11"
BUILDER_NUMPY_INCLUDE = "/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"


def fail(message: str) -> "SystemExit":
    """Return the exit that a user reads: one sentence, no traceback."""
    return SystemExit(f"setup: {message}")


def digest(*paths: Path) -> str:
    """Return a hash over the names and contents of files and of the files below folders."""
    total = hashlib.sha256(sys.version.encode())
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            total.update(str(file.relative_to(ROOT)).encode())
            total.update(file.read_bytes())
    return total.hexdigest()


def run(step: str, command: list[str], **environment: str) -> None:
    """Run one command with its output in a log; on failure show the log's end and exit.

    Raises:
        SystemExit: The command failed.
    """
    log = BUILD / f"{step}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print(f"setup: {step} …", flush=True)
    with log.open("w", encoding="utf-8") as output:
        result = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}, check=False
        )
    if result.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
        raise fail(f"{step} failed ({' '.join(command[:4])} …). The end of {log}:\n{tail}")
    print(f"setup: {step} done in {time.monotonic() - started:.0f} s", flush=True)


def create_environment() -> None:
    """Create .venv.

    Raises:
        SystemExit: This Python is not supported or cannot make environments.
    """
    if sys.version_info[:2] not in SUPPORTED:
        versions = ", ".join(f"{a}.{b}" for a, b in SUPPORTED)
        raise fail(f"needs Python {versions}; this is {sys.version.split()[0]}. Call make with PYTHON=python3.11.")
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            raise fail(f"'{tool}' is not installed; on Debian: apt-get install cmake g++ make")
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        raise fail("the headers of Python are missing; on Debian: apt-get install python3-dev")
    if VENV.exists():
        shutil.rmtree(VENV)
    result = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise fail("python3 -m venv failed; on Debian: apt-get install python3-venv")


def install_packages() -> None:
    """Install the pinned packages, or the bounds alone on a Python other than the one they were pinned on."""
    pinned = sys.version_info[:2] == (3, 11)
    requirements = "requirements.txt" if pinned else "requirements.in"
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    run("packages", [*pip, "-r", requirements])
    lines = (ROOT / requirements).read_text(encoding="utf-8").splitlines()
    alone = [line.split()[2] for line in lines if line.startswith("# no-deps: ")]
    run("packages without their dependencies", [*pip, "--no-deps", *alone])


def rewrite_cmake_paths() -> None:
    """Point the wheels' exported CMake targets at this machine's Python and numpy headers."""
    numpy_include = subprocess.run(
        [str(PYTHON), "-c", "import numpy; print(numpy.get_include())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for file in (VENV / "share").rglob("*.cmake"):
        text = file.read_text(encoding="utf-8")
        changed = text.replace(BUILDER_NUMPY_INCLUDE, numpy_include)
        changed = changed.replace(BUILDER_PYTHON_INCLUDE, sysconfig.get_paths()["include"])
        if changed != text:
            file.write_text(changed, encoding="utf-8")


def install_hooks() -> None:
    """Let every Python of .venv import `HOOKS` when it starts."""
    command = [str(PYTHON), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    packages = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    for hook in HOOKS:
        shutil.copy(hook, packages)
        (packages / f"{hook.stem}.pth").write_text(f"import {hook.stem}\n", encoding="utf-8")


def interface_folders() -> list[str]:
    """Return vla_ros_msgs, and the packages below interfaces/ that no sourced ROS has."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    sourced = [prefix / "share" for prefix in prefixes if prefix != VENV]
    others = sorted(path.parent for path in (ROOT / "interfaces").glob("*/package.xml"))
    own = [folder for folder in others if not any((share / folder.name / "package.xml").is_file() for share in sourced)]
    return ["vla_ros_msgs", *(str(folder.relative_to(ROOT)) for folder in own)]


def generate_interfaces() -> None:
    """Build the interfaces with colcon into .venv itself, where they import with nothing sourced."""
    rewrite_cmake_paths()
    command = [
        str(VENV / "bin" / "colcon"), "--log-base", str(BUILD / "log"), "build",
        "--base-paths", *interface_folders(), "--merge-install", "--install-base", str(VENV),
        "--build-base", str(BUILD / "colcon"),
        "--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={PYTHON}",
    ]  # fmt: skip
    run(
        "interfaces",
        command,
        PATH=f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        CMAKE_PREFIX_PATH=str(VENV),
        AMENT_PREFIX_PATH=str(VENV),
    )


def install_project() -> None:
    """Install this package in editable form; its dependencies are there already."""
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-build-isolation", "--no-deps"]
    run("project", [*pip, "-e", "."])


def main() -> None:
    """Run the steps whose inputs changed since they last ran."""
    pins = (ROOT / "requirements.txt", ROOT / "requirements.in")
    package = tuple(ROOT / name for name in ("setup.py", "setup.cfg", "package.xml", "requirements.in"))
    steps = (
        ("environment", create_environment, pins),
        ("packages", install_packages, pins),
        ("hooks", install_hooks, (*HOOKS, *pins)),
        ("interfaces", generate_interfaces, (ROOT / "vla_ros_msgs", ROOT / "interfaces", ROOT / "requirements.txt")),
        ("project", install_project, package),
    )
    for name, step, inputs in steps:
        stamp, wanted = VENV / f".stamp-{name}", digest(*inputs)
        if not stamp.is_file() or stamp.read_text() != wanted:
            step()
            stamp.write_text(wanted)


if __name__ == "__main__":
    main()
