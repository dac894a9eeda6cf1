"""The exponential average of trained weights, with BatchNorm statistics that belong to it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCH_NORM_BATCHES = 32
"""Batches that the statistics of the averaged weights are taken of."""


class WeightAverage:
    """Exponential average of trainable weights.

    BatchNorm's statistics are those of the trained weights' features; averaged weights make other features, and need
    statistics of their own: see `batch_norm_recomputed`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in _trained(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the current weights."""
        for name, parameter in _trained(module).items():
            self.values[name].lerp_(parameter, 1.0 - self.decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put the average into the module for the duration of a ``with`` block."""
        parameters = _trained(module)
        kept = {name: p.data for name, p in parameters.items()}
        for name, parameter in parameters.items():
            parameter.data = self.values[name]
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = kept[name]


def learning_batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers whose statistics follow the data; those of frozen ones do not."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    was_training = module.training
    module.train()
    learning = [norm for norm in norms if norm.training]
    module.train(was_training)
    return learning


@contextmanager
def batch_norm_recomputed(
    module: nn.Module, batches: Callable[[], Iterable[Any]], forward: Callable[[Any], Any]
) -> Iterator[None]:
    """Give BatchNorm layers the mean statistics of some batches for the duration of a ``with`` block.

    Args:
        module: Its present weights are those that the statistics are to fit. Left in eval mode.
        batches: Called where there are such layers at all.
        forward: Runs a batch through the module.
    """
    norms = learning_batch_norms(module)
    kept = [{name: value.clone() for name, value in norm.named_buffers(recurse=False)} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    try:
        if norms:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
                norm.train()
            with torch.no_grad():
                for batch in batches():
                    forward(batch)
            for norm in norms:
                norm.eval()
        yield
    finally:
        for norm, momentum, buffers in zip(norms, momenta, kept, strict=True):
            norm.momentum = momentum
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
