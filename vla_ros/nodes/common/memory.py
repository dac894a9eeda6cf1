"""How this process returns memory to the system: large messages are received over and over, so it keeps theirs."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_MESSAGE = 32 * 1024 * 1024


def keep_message_buffers() -> bool:
    """Let malloc keep blocks of up to 32 MiB instead of giving each back to the kernel.

    By default glibc maps every block of more than 128 KiB afresh, so each image of 0.9 MB costs the kernel 225 page
    faults when it arrives and as many when it is freed: a third of what the camera path cost (docs/benchmarks.md).

    Returns:
        Whether the C library took it; others than glibc do not have it and need nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MESSAGE) and mallopt(_M_TRIM_THRESHOLD, 8 * _LARGEST_MESSAGE))
