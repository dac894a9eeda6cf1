"""Trades time for memory: the blocks of a stack compute their activations again in the backward pass.

The blocks are the members of every `nn.ModuleList`, which is how transformers of all kinds hold their layers. A block
whose work is not in ``forward`` names its methods in a class attribute ``checkpointed_methods``.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def enable_gradient_checkpointing(module: nn.Module) -> int:
    """Checkpoint the blocks of a module, in training only; losses and gradients stay what they are.

    Blocks with BatchNorm are left alone: run twice, they would count each batch twice.

    Returns:
        How many blocks are checkpointed; blocks that were before are not counted again.
    """
    count = 0
    for stack in [part for part in module.modules() if isinstance(part, nn.ModuleList)]:
        for block in stack:
            if any(isinstance(part, _BatchNorm) for part in block.modules()):
                continue
            methods = getattr(type(block), "checkpointed_methods", ("forward",))
            fresh = [name for name in methods if name not in vars(block)]
            for name in fresh:
                setattr(block, name, _checkpointed(block, getattr(block, name)))
            count += bool(fresh)
    return count


def _checkpointed(block: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def run(*arguments: Any, **named: Any) -> Any:
        if block.training and torch.is_grad_enabled():
            return checkpoint(method, *arguments, use_reentrant=False, **named)
        return method(*arguments, **named)

    return run
