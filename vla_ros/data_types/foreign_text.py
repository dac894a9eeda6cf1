"""Text that came from outside, made fit for an error: cut, and without control characters. Nothing else.

Errors are logged, published as status and returned by services, so a name of a megabyte in a message must not become a
sentence of a megabyte.
"""

from collections.abc import Iterable
from itertools import islice

MAX_CHARACTERS = 80
MAX_NAMES = 10


def plain(text: object, limit: int = MAX_CHARACTERS) -> str:
    """Return text on one line of at most about `limit` characters; what is cut is counted."""
    whole = str(text)
    # Escapes in the way of repr; a lone surrogate counts as unprintable and could not be encoded
    kept = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in whole[:limit])
    return kept if len(whole) <= limit else f"{kept}… ({len(whole)} characters)"


def listed(names: Iterable[object], limit: int = MAX_NAMES) -> str:
    """Return names joined by commas, at most `limit` of them; ``none`` when there are none."""
    everything = list(names)
    shown = ", ".join(plain(name) for name in islice(everything, limit))
    rest = len(everything) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown or "none"


def first_line(reason: BaseException, limit: int = 200) -> str:
    """Return an exception's type and the first line of its text."""
    lines = str(reason).strip().splitlines()
    return f"{type(reason).__name__}: {plain(lines[0], limit)}" if lines else type(reason).__name__
