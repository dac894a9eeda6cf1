"""Optimisers and the average of weights. No schedule, no loop."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vla_ros.training.recipe import OptimiserOptions


def build_optimiser(policy: nn.Module, options: OptimiserOptions) -> torch.optim.Optimizer:
    """Return the optimiser of a policy's trainable weights."""
    parameters = [p for p in policy.parameters() if p.requires_grad]
    if options.name == "adam":
        return torch.optim.Adam(parameters, lr=options.lr, betas=options.betas, weight_decay=options.weight_decay)
    # biases, norms and temperatures are not what decay is for
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Round numbers below 1e-38 to zero for the duration of a ``with`` block, in this thread.

    A CPU takes many times as long for them, and a sharp softmax over a map and its gradients are full of them: training
    slows down as it succeeds.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # torch's default; what it was cannot be asked


class WeightAverage:
    """Exponential average of trainable weights. Buffers are not averaged: BatchNorm's have an average of their own."""

    def __init__(self, policy: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in _trained(policy).items()}

    @torch.no_grad()
    def update(self, policy: nn.Module) -> None:
        """Move the average towards the current weights."""
        for name, parameter in _trained(policy).items():
            self.values[name].lerp_(parameter, 1.0 - self.decay)

    @contextmanager
    def applied(self, policy: nn.Module) -> Iterator[None]:
        """Put the average into the policy for the duration of a ``with`` block."""
        parameters = _trained(policy)
        kept = {name: p.data for name, p in parameters.items()}
        for name, parameter in parameters.items():
            parameter.data = self.values[name]
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = kept[name]


def _trained(policy: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in policy.named_parameters() if p.requires_grad}
