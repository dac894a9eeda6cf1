"""Looks at what a factory of another package has built: a module that says how large its output is. Knows no names."""

from typing import Any

from torch import nn

from vla_ros.data_types import ConfigError


def check_built(noun: str, name: str, built: Any, attribute: str, sizes: int) -> None:
    """Refuse what is no module, or does not say the sizes of its output.

    Args:
        noun: What it is called, for the message.
        name: Its name.
        built: What the factory returned.
        attribute: Where it says its sizes.
        sizes: How many; 1 is a plain number.

    Raises:
        ConfigError: Says what is missing.
    """
    if not isinstance(built, nn.Module):
        raise ConfigError(f"{noun} '{name}' builds a {type(built).__name__}; expected a torch.nn.Module.")
    given = getattr(built, attribute, None)
    values = given if isinstance(given, tuple) else (given,)
    if len(values) != sizes or not all(isinstance(value, int) and value > 0 for value in values):
        wanted = "a number" if sizes == 1 else f"{sizes} numbers"
        raise ConfigError(f"{noun} '{name}' has {attribute}={given!r}; expected {wanted} of at least 1.")
