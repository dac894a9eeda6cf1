"""Which package something comes from, by name and version. Reads what is installed; imports none of it."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from vla_ros import __version__


@dataclass(frozen=True)
class Owner:
    """A package.

    Attributes:
        package: Its name as pip knows it, or the name of a module that no package installed.
        version: Its version; empty where no package installed it.
    """

    package: str
    version: str = ""

    def __str__(self) -> str:
        """Return how a sentence names it."""
        return f"{self.package} {self.version}" if self.version else f"the module '{self.package}'"


OWN = Owner("vla_ros", __version__)


def owner_of_module(module: str) -> Owner:
    """Return the package that installed a module."""
    top = module.partition(".")[0]
    if top == OWN.package:
        return OWN
    with suppress(PackageNotFoundError):  # its files are there, its description is not
        for package in _packages_of_modules(tuple(sys.path)).get(top, ()):
            return Owner(package, version(package))
    return Owner(top)


@lru_cache(maxsize=4)
def _packages_of_modules(_path: tuple[str, ...]) -> dict[str, list[str]]:
    return dict(packages_distributions())
