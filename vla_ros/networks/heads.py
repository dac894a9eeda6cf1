"""Heads: feature vector → numbers. No action space, no bounds."""

from collections.abc import Sequence

from torch import nn


def mlp(input_dim: int, hidden_dims: Sequence[int], output_dim: int, dropout: float = 0.0) -> nn.Sequential:
    """Return Linear + ReLU + Dropout for each hidden width, then a Linear to `output_dim`."""
    layers: list[nn.Module] = []
    width = input_dim
    for hidden_dim in hidden_dims:
        layers += [nn.Linear(width, hidden_dim), nn.ReLU(), nn.Dropout(dropout)]
        width = hidden_dim
    return nn.Sequential(*layers, nn.Linear(width, output_dim))
