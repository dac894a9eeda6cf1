"""CDR bytes → rclpy messages. For nodes; without ROS, `bags.deserialize` does the same."""

import re
from functools import lru_cache
from typing import Any

from rclpy.serialization import deserialize_message

from vla_ros.data_types import ConfigError
from vla_ros.messages import cdr
from vla_ros.messages.message_class import message_class

__all__ = ["deserialize", "message_class"]


def deserialize(raw: bytes, type_name: str) -> Any:
    """Return the rclpy message that CDR bytes hold.

    Raises:
        ConfigError: The type's package is not there.
        DecodeError: The bytes are damaged or of another type.
    """
    kind = message_class(type_name)
    cdr.check(raw, _layout(type_name), type_name)
    try:
        return deserialize_message(raw, kind)
    except Exception as reason:  # the middleware reports damage by several exception types of its own
        raise cdr.damaged(raw, type_name) from reason


_SEQUENCE = re.compile(r"sequence<(.+?)(?:, *\d+)?>$")
_ARRAY = re.compile(r"(.+)\[(\d+)\]$")
_NUMBERS = {
    **dict.fromkeys(("boolean", "octet", "char", "int8", "uint8"), 1),
    **dict.fromkeys(("int16", "uint16"), 2),
    **dict.fromkeys(("int32", "uint32", "float"), 4),
    **dict.fromkeys(("int64", "uint64", "double"), 8),
}
"""IDL type, as rclpy's classes name it → bytes."""


@lru_cache(maxsize=256)
def _layout(type_name: str) -> cdr.Layout:
    return cdr.Layout(_message(type_name))


def _message(type_name: str) -> cdr.Message:
    fields = message_class(type_name).get_fields_and_field_types()
    return cdr.Message(tuple((name, _kind(text)) for name, text in fields.items()))


def _kind(text: str) -> cdr.Kind:
    if text in _NUMBERS:
        return cdr.Number(_NUMBERS[text])
    if sequence := _SEQUENCE.match(text):
        return cdr.Sequence(_kind(sequence[1]))
    if array := _ARRAY.match(text):
        return cdr.Array(_kind(array[1]), int(array[2]))
    if text.partition("<")[0] == "string":
        return cdr.Text()
    package, slash, name = text.partition("/")
    if not slash:
        raise ConfigError(f"messages with a field of type '{text}' cannot be read")
    return _message(f"{package}/msg/{name}")
