"""The header stamp of a serialised message, read without deserialising it."""

import struct

from vla_ros.data_types import NANOSECONDS, DecodeError

_STAMP = {True: struct.Struct("<iI"), False: struct.Struct(">iI")}

_PREFIX = 4
"""CDR begins with two bytes of representation (the last bit of the second: little endian) and two of options."""


def header_stamp_ns(raw: bytes | memoryview) -> int:
    """Return the stamp in ns of a CDR message whose first field is a std_msgs/Header.

    Raises:
        DecodeError: The bytes are too short to hold a stamp, or its nanoseconds are not below one second.
    """
    if len(raw) < _PREFIX + 8:
        raise DecodeError(f"{len(raw)} bytes are too few to hold a header; damaged or of another type")
    seconds, nanoseconds = _STAMP[bool(raw[1] & 1)].unpack_from(raw, _PREFIX)
    if nanoseconds >= NANOSECONDS:
        raise DecodeError(f"a header stamp has {nanoseconds} ns within its second; damaged or of another type")
    return int(seconds) * NANOSECONDS + int(nanoseconds)
