"""Weights of an earlier version's names → today's. A module whose names have changed says how, in `upgrade_weights`."""

from collections.abc import Mapping

from torch import Tensor, nn


def upgraded_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a module's weights under today's names.

    Each part that has a method ``upgrade_weights(weights) -> weights`` is given those below its own name. What is of
    today already, or of no version, stays as it is.

    Args:
        module: What the weights are of.
        weights: Name → tensor; it may have no memory.
    """
    upgraded = dict(weights)
    for name, part in module.named_modules():
        upgrade = getattr(part, "upgrade_weights", None)
        if upgrade is None:
            continue
        start = f"{name}." if name else ""
        mine = {key.removeprefix(start): upgraded.pop(key) for key in list(upgraded) if key.startswith(start)}
        upgraded |= {start + key: value for key, value in upgrade(mine).items()}
    return upgraded
