"""Finds the files that ship with the package: configurations, models, launch files. Standard library only."""

import os
import sys
from pathlib import Path

from vla_ros.data_types.errors import ConfigError, nearest_name


def share_folders() -> list[Path]:
    """Return the folders that may hold the package's files, the most specific first.

    A source checkout (editable install) comes before the ``share/vla_ros`` of every prefix on
    ``AMENT_PREFIX_PATH`` and of the Python environment.
    """
    checkout = Path(__file__).resolve().parents[2]
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folders = [checkout] if (checkout / "package.xml").is_file() else []
    folders += [prefix / "share" / "vla_ros" for prefix in [*prefixes, Path(sys.prefix)]]
    return [folder for folder in folders if folder.is_dir()]


def resource_path(relative: str) -> Path:
    """Return the path of a shipped file or folder, e.g. ``config/robots/metaworld_sawyer.yaml``.

    Raises:
        ConfigError: No folder of the package holds it; names the nearest file beside it.
    """
    folders = share_folders()
    for folder in folders:
        if (folder / relative).exists():
            return folder / relative
    siblings = {p.name for folder in folders for p in (folder / relative).parent.glob("*")}
    places = ", ".join(map(str, folders)) or "no folder of the package"
    raise ConfigError(f"{relative}: not found in {places}.{nearest_name(Path(relative).name, siblings)}")
