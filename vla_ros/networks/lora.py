"""Low-rank adapters on linear layers, by peft: only they learn; merged, plain layers remain, with other weights.

"LoRA: Low-Rank Adaptation of Large Language Models" (Hu et al., 2021).
"""

from importlib import import_module
from typing import Any

from torch import nn

from vla_ros.data_types import ConfigError

ATTENTION = ("attn", "attention")


def enable_lora(module: nn.Module, r: int = 16, alpha: float = 32, targets: tuple[str, ...] = ATTENTION) -> list[str]:
    """Put adapters on a module's linear layers, and let nothing else of it learn. The output is at first unchanged.

    Args:
        module: Changed in place.
        r: Rank.
        alpha: The adapters' output is scaled by alpha / r.
        targets: Texts of which one stands in the name of each layer that is adapted.

    Returns:
        Names of the adapted layers.

    Raises:
        ConfigError: peft is not installed, no layer is a target, or r is below 1.
    """
    if r < 1:
        raise ConfigError(f"lora: r={r} must be at least 1.")
    found = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and any(target in name for target in targets)
    ]
    if not found:
        raise ConfigError(
            f"lora: no linear layer of {type(module).__name__} has one of {', '.join(targets)} in its name."
        )
    peft = _peft()
    peft.inject_adapter_in_model(peft.LoraConfig(r=r, lora_alpha=alpha, target_modules=found), module)
    return found


def merge_lora(module: nn.Module) -> nn.Module:
    """Add the adapters to the weights, in place, and put plain linear layers where they were; return the module."""
    layer_type = import_module("peft.tuners.tuners_utils").BaseTunerLayer
    for name, part in list(module.named_modules()):
        if isinstance(part, layer_type):
            part.merge()
            parent, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(parent), attribute, part.get_base_layer())
    return module


def lora_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the adapters' weights by name."""
    return {name: value for name, value in module.named_parameters() if ".lora_" in name}


def _peft() -> Any:
    try:
        return import_module("peft")
    except ImportError as reason:
        raise ConfigError("LoRA needs the package peft: pip install peft") from reason
