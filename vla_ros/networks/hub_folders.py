"""Folders of transformers by name: a folder itself, or a model of the hub from its cache, fetched only when asked for.

transformers' own ``local_files_only`` still asks the hub some questions; here nothing is asked unless it says
``download:``.
"""

from importlib import import_module
from pathlib import Path

from vla_ros.data_types import ConfigError
from vla_ros.data_types.foreign_text import first_line
from vla_ros.networks.weight_files import DOWNLOAD

KEPT = ("*.json", "*.safetensors", "*.model", "*.txt")
"""What is fetched of a model: configuration, weights, tokenizer; no code."""


def hub_folder(source: str, what: str) -> Path:
    """Return the folder that a source stands for.

    Args:
        source: A folder; a model's name, whose files are in the hub's cache; ``download:NAME``, fetched into it.
        what: What it is, for messages: ``language model``.

    Raises:
        ConfigError: There is no such folder, the model is not in the cache, or it cannot be fetched.
    """
    name = source.removeprefix(DOWNLOAD)
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    try:
        hub = import_module("huggingface_hub")
    except ImportError as reason:
        raise ConfigError(f"{what} '{name}' needs the package transformers: pip install transformers") from reason
    try:
        if source.startswith(DOWNLOAD):
            return Path(hub.snapshot_download(name, allow_patterns=list(KEPT)))
        found = hub.try_to_load_from_cache(name, "config.json")
    except (OSError, ValueError, RuntimeError) as reason:
        raise ConfigError(f"{what} '{name}' cannot be fetched: {first_line(reason)}.") from reason
    if not isinstance(found, str):
        raise ConfigError(
            f"{what} '{name}' is not on this machine; write '{DOWNLOAD}{name}' to fetch it, or name a folder."
        )
    return Path(found).parent
