"""CDR bytes → rclpy messages. For nodes; without ROS, `bags.deserialize` does the same."""

from functools import lru_cache
from importlib import import_module
from typing import Any

from rclpy.serialization import deserialize_message

from vla_ros.data_types import ConfigError, DecodeError, nearest_name


@lru_cache(maxsize=256)
def message_class(type_name: str) -> Any:
    """Return the Python class of a ROS type, ``pkg/msg/Type``.

    Raises:
        ConfigError: Its package is not installed or sourced, or has no such message.
    """
    package, _, name = type_name.partition("/msg/")
    try:
        module = import_module(f"{package}.msg")
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


def deserialize(raw: bytes, type_name: str) -> Any:
    """Return the rclpy message that CDR bytes hold.

    Raises:
        ConfigError: The type's package is not there.
        DecodeError: The bytes are damaged or of another type.
    """
    kind = message_class(type_name)
    try:
        return deserialize_message(raw, kind)
    except Exception as reason:  # the middleware reports damage by several exception types of its own
        raise DecodeError(
            f"{len(raw)} bytes do not hold a {type_name}; they are damaged or of another type"
        ) from reason
