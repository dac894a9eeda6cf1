"""Entry points of the installed packages, read one package at a time: a broken one is remembered and named, no more."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import Distribution, distributions

from vla_ros.data_types.foreign_text import first_line, plain
from vla_ros.registry.owners import OWN, Owner

PREFIX = "vla_ros."
"""Of the groups: ``vla_ros.policies``, ``vla_ros.encoders`` and so on."""


@dataclass(frozen=True)
class Installed:
    """What the packages on a path provide.

    Attributes:
        points: Group → (name, ``module:attribute``, owner), in the order of the path.
        problems: A sentence for each package whose entry points cannot be read.
    """

    points: dict[str, list[tuple[str, str, Owner]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def installed() -> Installed:
    """Return what the packages on Python's path provide; read again when the path changes."""
    return _read(tuple(sys.path))


def broken_packages() -> tuple[str, ...]:
    """Return a sentence for each installed package whose entry points cannot be read."""
    return tuple(installed().problems)


@lru_cache(maxsize=4)
def _read(path: tuple[str, ...]) -> Installed:
    found, seen = Installed(), {OWN.package}
    for distribution in distributions(path=list(path)):
        owner = Owner("a package")
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if PREFIX not in text:
                continue
            owner = _owner(distribution)
            normal = owner.package.lower().replace("-", "_")
            if normal in seen:  # the first on the path is the one that is imported
                continue
            seen.add(normal)
            _take(found, owner, ((p.group, p.name, p.value) for p in distribution.entry_points))
        except Exception as reason:  # noqa: BLE001 (whatever a stranger's package holds must not break the others)
            found.problems.append(f"The entry points of {owner} cannot be read: {first_line(reason)}.")
    return found


def _owner(distribution: Distribution) -> Owner:
    metadata = distribution.metadata
    return Owner(plain(metadata["Name"] or "a package without a name"), plain(metadata["Version"] or "0"))


def _take(found: Installed, owner: Owner, points: Iterable[tuple[str, str, str]]) -> None:
    for group, name, value in list(points):
        if group.startswith(PREFIX):
            found.points.setdefault(group, []).append((name, value, owner))
