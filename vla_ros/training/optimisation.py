"""Optimisers: which weights change, and how fast each part of a model does. No schedule, no loop."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.policies.parts import parameter_parts
from vla_ros.training.recipe import OptimiserOptions


def build_optimiser(module: nn.Module, options: OptimiserOptions) -> torch.optim.Optimizer:
    """Return the optimiser of a module's trainable weights; its groups have the largest rates.

    Parts whose learning rate is 0 are frozen: their weights no longer ask for gradients.

    Raises:
        ConfigError: A learning rate is given for a part that the module does not have, or nothing is left to train.
    """
    parts = parameter_parts(module)
    for name in options.part_lr:
        if name not in parts:
            raise ConfigError(
                f"optimiser.part_lr: '{name}' is no part of this model; it has {', '.join(parts)}."
                f"{nearest_name(name, parts)}"
            )
    rates = {name: options.part_lr.get(name, options.lr) for name in parts}
    for name, parameters in parts.items():
        if rates[name] == 0.0:
            for parameter in parameters:
                parameter.requires_grad_(False)
    rate_of = {id(p): rates[name] for name, parameters in parts.items() for p in parameters}
    groups = list(_groups([p for p in module.parameters() if p.requires_grad], rate_of, options))
    if not groups:
        raise ConfigError("optimiser.part_lr: every part has the rate 0; nothing is left to train.")
    kind = torch.optim.Adam if options.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=options.lr, betas=options.betas)


def _groups(
    parameters: Sequence[nn.Parameter], rate_of: Mapping[int, float], options: OptimiserOptions
) -> Iterator[dict[str, Any]]:
    """Yield the groups, one or two for each learning rate."""
    for rate in dict.fromkeys(rate_of[id(p)] for p in parameters):
        own = [p for p in parameters if rate_of[id(p)] == rate]
        # biases, norms and temperatures are not what decay is for; Adam's own decay makes no difference between them
        plain = [] if options.name == "adam" else [p for p in own if p.ndim < 2]
        decayed = own if options.name == "adam" else [p for p in own if p.ndim >= 2]
        if decayed:
            yield {"params": decayed, "weight_decay": options.weight_decay, "lr": rate}
        if plain:
            yield {"params": plain, "weight_decay": 0.0, "lr": rate}


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
