"""Heads: feature vector → numbers, by name. No action space, no bounds."""

from collections.abc import Sequence

from torch import nn

from vla_ros.data_types import ConfigError
from vla_ros.registry import HEADS


def mlp(input_dim: int, hidden_dims: Sequence[int], output_dim: int, dropout: float = 0.0) -> nn.Sequential:
    """Return Linear + ReLU + Dropout for each hidden width, then a Linear to `output_dim`."""
    layers: list[nn.Module] = []
    width = input_dim
    for hidden_dim in hidden_dims:
        layers += [nn.Linear(width, hidden_dim), nn.ReLU(), nn.Dropout(dropout)]
        width = hidden_dim
    return nn.Sequential(*layers, nn.Linear(width, output_dim))


def build_head(name: str, input_dim: int, hidden_dims: Sequence[int], output_dim: int, dropout: float) -> nn.Module:
    """Build a head by its name in `vla_ros.registry.HEADS`, for features [..., input_dim] → numbers [..., output_dim].

    Raises:
        ConfigError: No head has this name, it cannot be imported, or what it builds is no module.
    """
    built = HEADS[name](input_dim, hidden_dims, output_dim, dropout)
    if not isinstance(built, nn.Module):
        raise ConfigError(f"head '{name}' builds a {type(built).__name__}; expected a torch.nn.Module.")
    return built
