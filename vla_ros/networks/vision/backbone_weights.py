"""Pretrained weights of an image backbone, from a file, a folder, a wheel or by name, strictly.

A file holds a state dict: safetensors, or what `torch.save` wrote. Names are the backbone's own or those of its
published form; a published classifier is left out, anything else missing or too much is an error.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vla_ros.data_types import ConfigError
from vla_ros.networks.vision.backbones import Backbone
from vla_ros.networks.weight_files import find_weights

NAMED = 3


def load_backbone_weights(backbone: Backbone, source: str | Path) -> None:
    """Replace a backbone's weights; on an error it stays as it is.

    Args:
        backbone: The backbone.
        source: A file, or what else `find_weights` takes; names are those of the backbone's `published_weights`.

    Raises:
        ConfigError: The file is missing or unreadable, or does not hold exactly this backbone's weights.
    """
    published = backbone.read_published(str(source))
    path = Path(source) if published is not None else find_weights(str(source), backbone.published_weights)
    weights = backbone.translate_weights(_read(path) if published is None else published)
    own = backbone.state_dict()
    problems = [
        *_named("lacks", [name for name in own if name not in weights]),
        *_named("has too much", [name for name in weights if name not in own]),
    ]
    problems += [
        f"'{name}' is {list(weights[name].shape)} in the file, {list(value.shape)} in the backbone"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ][:NAMED]
    if problems:
        raise ConfigError(f"{path}: not the weights of this {type(backbone).__name__}: {'; '.join(problems)}.")
    backbone.load_state_dict(weights, strict=True)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as reason:
        line = " ".join(str(reason).split())[:200]
        raise ConfigError(f"{path}: not readable as backbone weights: {line}") from reason
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ConfigError(f"{path}: expected a state dict (names → tensors), as torch.save(model.state_dict()) writes.")
    return dict(content)


def _named(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"it {what} {', '.join(names[:NAMED])}{rest}"]
