"""Bytes → value, with nothing but a DecodeError for bytes that have none. No ROS import.

Decoders refuse what they know to be wrong. Whatever else a message's bytes do to them, or to a library below them, must
not end the thread that decodes: it is a `DecodeError` as well, and its traceback goes to the log.
"""

import logging
from collections.abc import Callable
from typing import Any

from vla_ros.data_types import Array, DecodeError, UserError
from vla_ros.data_types.foreign_text import first_line, plain

_LOG = logging.getLogger(__name__)

_MAX_LOGGED = 1000
"""Streams times kinds of exception; both are few, but a sender must not decide how much is kept."""

_logged: set[tuple[str, type[Exception]]] = set()


def unforeseen(place: str, reason: Exception) -> DecodeError:
    """Return the error to raise for an exception while a message was decoded.

    The traceback is logged once for each stream and kind of exception: a stream of such messages would fill the log.

    Args:
        place: Topic and key.
        reason: What was caught, MemoryError among others.
    """
    if isinstance(reason, UserError):
        return DecodeError(f"{place}: {plain(reason, 500)}")
    kind = (place, type(reason))
    if kind not in _logged and len(_logged) < _MAX_LOGGED:
        _logged.add(kind)
        _LOG.error("%s: a message could not be decoded", place, exc_info=reason)
    return DecodeError(f"{place}: the message cannot be decoded ({first_line(reason)})")


def decode_message(
    raw: bytes, type_name: str, place: str, deserialize: Callable[[bytes, str], Any], decode: Callable[[Any], Array]
) -> Array:
    """Return the value of a serialised message; it cannot be written to, since it is handed out more than once.

    Args:
        raw: CDR bytes.
        type_name: ROS type.
        place: Topic and key.
        deserialize: Bytes to message.
        decode: Message to array; its DecodeErrors name topic and key.

    Raises:
        DecodeError: It has none; names topic and key. No other exception leaves a decoder, of whoever it is.
    """
    try:
        message = deserialize(raw, type_name)
    except DecodeError as reason:
        raise DecodeError(f"{place}: {reason}") from reason
    except Exception as reason:
        raise unforeseen(place, reason) from reason
    try:
        value = decode(message)
        value.setflags(write=False)
    except DecodeError:
        raise
    except Exception as reason:
        raise unforeseen(place, reason) from reason
    return value
