"""Looks at what a factory of another package has built: a module that says how large its output is. Knows no names.

torch is not imported here; a module is known by the class that it derives from.
"""

from collections.abc import Mapping
from typing import Any

from vla_ros.data_types import ConfigError
from vla_ros.registry.registry import Registry

_MODULE = ("torch.nn.modules.module", "Module")


def build_part(
    registry: Registry[Any], name: str, *arguments: Any, sizes: Mapping[str, int] | None = None, **options: Any
) -> Any:
    """Build a module by its name.

    Args:
        registry: Where the name stands.
        name: Its name.
        arguments: What its factory takes.
        sizes: Attribute in which the module says sizes of its output → how many they are.
        options: Options of its own, given by a user.

    Raises:
        ConfigError: There is no such name, it cannot be imported, it takes no such options, or what it builds is no
            module that says these sizes.
    """
    try:
        built = registry[name](*arguments, **options)
    except TypeError as reason:
        if not options:
            raise
        raise ConfigError(f"{registry.noun} '{name}' takes no such options: {reason}.") from reason
    check_module(registry.noun, name, built)
    for attribute, count in (sizes or {}).items():
        check_built(registry.noun, name, built, attribute, count)
    return built


def check_module(noun: str, name: str, built: Any) -> None:
    """Refuse what is no module.

    Raises:
        ConfigError: Says what it is.
    """
    if not any((base.__module__, base.__name__) == _MODULE for base in type(built).__mro__):
        raise ConfigError(f"{noun} '{name}' builds a {type(built).__name__}; expected a torch.nn.Module.")


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
    check_module(noun, name, built)
    given = getattr(built, attribute, None)
    values = given if isinstance(given, tuple) else (given,)
    if len(values) != sizes or not all(isinstance(value, int) and value > 0 for value in values):
        wanted = "a number" if sizes == 1 else f"{sizes} numbers"
        raise ConfigError(f"{noun} '{name}' has {attribute}={given!r}; expected {wanted} of at least 1.")
