"""Tells ROS tools that this Python environment is a ROS prefix, as a ``setup.bash`` would. Standard library only.

The wheels put ament's index, CMake packages and interfaces below the environment's own folder, but set nothing that
points there: `colcon build` then fails on the first interface package. `setup_environment.py` copies this file into the
environment with a ``.pth`` file that imports it, so that it runs whenever Python starts there, colcon included.
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

PREFIXES = "AMENT_PREFIX_PATH"
ENVIRONMENT = "VIRTUAL_ENV"


def announce(prefix: str, environment: MutableMapping[str, str]) -> None:
    """Add this environment to the ROS prefixes, the last of them, unless a ROS installation is sourced.

    Args:
        prefix: Folder of the environment.
        environment: Variables of the process, changed in place.
    """
    known = [path for path in environment.get(PREFIXES, "").split(os.pathsep) if path]
    others = [path for path in known if Path(path) != Path(prefix)]
    if any(Path(path, "share", "rclpy", "package.xml").is_file() for path in others):
        return
    if len(others) == len(known):
        environment[PREFIXES] = os.pathsep.join([*known, prefix])
    environment.setdefault(ENVIRONMENT, prefix)  # CMake finds Python by it


if sys.prefix != sys.base_prefix:
    announce(sys.prefix, os.environ)
