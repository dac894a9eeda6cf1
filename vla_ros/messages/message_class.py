"""ROS type → the Python class of its messages. Imports message packages by name when they are asked for."""

from functools import lru_cache
from importlib import import_module
from typing import Any

from vla_ros.data_types import ConfigError, nearest_name


@lru_cache(maxsize=256)
def message_class(type_name: str) -> Any:
    """Return the Python class of a ROS type, ``pkg/msg/Type`` or ``pkg/action/Type``.

    Raises:
        ConfigError: Its package is not installed or sourced, or has no such message.
    """
    package, kind, name = type_name.split("/")
    try:
        module = import_module(f"{package}.{kind}")
    except ModuleNotFoundError as reason:
        raise ConfigError(
            f"message type '{type_name}': package '{package}' is not installed for this Python; install ros-<distro>-"
            f"{package.replace('_', '-')} or source the workspace that has it."
        ) from reason
    if not hasattr(module, name):
        known = [entry for entry in dir(module) if entry[:1].isupper()]
        hint = nearest_name(name, known)
        raise ConfigError(f"message type '{type_name}': package '{package}' has no such message.{hint}")
    return getattr(module, name)
