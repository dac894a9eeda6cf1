"""The header stamp of a serialised message, read without deserialising it."""

import struct

from vla_ros.data_types import NANOSECONDS, DecodeError
from vla_ros.messages.cdr import PREFIX

_STAMP = {(0, 1): struct.Struct("<iI"), (0, 0): struct.Struct(">iI")}
"""Representation, little and big endian → how seconds and nanoseconds are read."""


def header_stamp_ns(raw: bytes | memoryview) -> int:
    """Return the stamp in ns of a CDR message whose first field is a std_msgs/Header; 0 when it was not stamped.

    Raises:
        DecodeError: The bytes are no plain CDR or too short to hold a stamp, or the stamp is before the clock's zero or
            has nanoseconds of a second or more.
    """
    if len(raw) < PREFIX + 8:
        raise DecodeError(f"{len(raw)} bytes are too few to hold a header; damaged or of another type")
    layout = _STAMP.get((raw[0], raw[1]))
    if layout is None:
        raise DecodeError(f"{len(raw)} bytes do not begin as plain CDR; damaged or of another type")
    seconds, nanoseconds = layout.unpack_from(raw, PREFIX)
    if nanoseconds >= NANOSECONDS:
        raise DecodeError(f"a header stamp has {nanoseconds} ns within its second; damaged or of another type")
    if seconds < 0:
        # builtin_interfaces/Time counts from zero of the clock, 1970 or the start of a simulation
        raise DecodeError(f"a header stamp is at {seconds} s, before its clock began; damaged or of another type")
    return int(seconds) * NANOSECONDS + int(nanoseconds)
