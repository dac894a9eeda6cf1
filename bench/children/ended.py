"""How a child learns that it is to end: SIGINT or SIGTERM sets a flag, so that it can still report."""

import signal
import threading


def ended_by_signal() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended
