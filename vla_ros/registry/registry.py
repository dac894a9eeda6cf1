"""One registry: a dictionary of names whose things may lie in packages that are not imported yet."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Generic, TypeVar

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.data_types.foreign_text import first_line, listed, plain
from vla_ros.registry.installed import PREFIX, installed
from vla_ros.registry.owners import OWN, Owner, owner_of_module
from vla_ros.registry.stand_ins import StandIns

Thing = TypeVar("Thing")

_MOST_NAMES = 40  # in one sentence


class UnknownNameError(ConfigError, KeyError):
    """Nothing has this name."""

    __str__ = ConfigError.__str__  # a KeyError would put its sentence in quotes


class TakenNameError(ConfigError, ValueError):
    """Two packages want one name."""


class BrokenPartError(ConfigError):
    """What a name stands for cannot be imported, or is of another kind."""


@dataclass(frozen=True)
class Entry:
    """What a name stands for.

    Attributes:
        name: The name.
        target: The thing, or where it is: ``module:attribute``.
        owner: The package that provides it.
        module: Where a value was written, which does not say so itself.
    """

    name: str
    target: Any
    owner: Owner
    module: str = ""

    @property
    def place(self) -> str:
        """Where the thing is: ``module:attribute``."""
        if isinstance(self.target, str):
            return plain(self.target)
        name = getattr(self.target, "__qualname__", type(self.target).__qualname__)
        return f"{self.module or _module_of(self.target)}:{name}"

    def load(self) -> Any:
        """Return the thing, imported.

        Raises:
            Exception: Whatever its module does.
        """
        if not isinstance(self.target, str):
            return self.target
        module, _, attributes = self.target.partition("[")[0].partition(":")  # without extras
        thing = import_module(module.strip())
        for attribute in attributes.strip().split("."):
            thing = getattr(thing, attribute)
        return thing


class Registry(MutableMapping[str, Thing], Generic[Thing]):
    """Names of one kind; a dictionary that never overwrites.

    Args:
        kind: Plural, as the entry points' group has it: ``policies``.
        noun: What one is called in sentences: ``policy``.
        what: One sentence: what a thing of this kind is, and how it is called.
        built_in: Name → ``module:attribute``.
        base: ``module:Class`` that a thing must be a subclass of; None asks that it can be called.
        is_value: Things are values: instances of the base.

    Attributes:
        stand_ins: The same names, for tests that put something else in the place of a thing.
    """

    def __init__(
        self,
        kind: str,
        noun: str,
        what: str,
        built_in: Mapping[str, str] | None = None,
        *,
        base: str | None = None,
        is_value: bool = False,
    ) -> None:
        self.kind, self.noun, self.what = kind, noun, what
        self.group = f"{PREFIX}{kind}"
        self._base, self._is_value = base, is_value
        self._built_in = {name: Entry(name, place, OWN) for name, place in (built_in or {}).items()}
        self._registered: dict[str, Entry] = {}
        self._replaced: dict[str, Thing] = {}
        self.stand_ins: StandIns[Thing] = StandIns(self, self._replaced)

    def names(self) -> tuple[str, ...]:
        """Return all names: those of this package in the order of their table, then others, sorted. Imports nothing."""
        return (*self.built_in, *sorted(self._candidates().keys() - self._built_in.keys()))

    @property
    def built_in(self) -> tuple[str, ...]:
        """The names of this package, in the order of their table."""
        return tuple(self._built_in)

    def entry(self, name: str) -> Entry:
        """Return what a name stands for, without importing it.

        Raises:
            UnknownNameError: Nothing has this name; names the nearest and those that there are.
            TakenNameError: Two packages provide it; names both.
        """
        entries = self._candidates().get(name, [])
        if not entries:
            raise UnknownNameError(self._unknown(name))
        if len(entries) > 1:
            both = " and by ".join(f"{entry.owner} ({entry.place})" for entry in entries)
            raise TakenNameError(
                f"{self.noun} '{plain(name)}' is provided by {both}; uninstall one of them, or have it renamed."
            )
        return entries[0]

    def entries(self) -> tuple[Entry, ...]:
        """Return everything that is provided, by name; a name that two packages provide is there twice."""
        return tuple(entry for name in self.names() for entry in self._candidates()[name])

    def load(self, entry: Entry) -> Thing:
        """Import what an entry stands for.

        Raises:
            BrokenPartError: It cannot be imported, or is of another kind; names the package, in one line.
        """
        try:
            thing = entry.load()
        except (Exception, SystemExit) as reason:
            raise BrokenPartError(
                f"{self.noun} '{plain(entry.name)}' of {entry.owner} ({entry.place}) cannot be imported: "
                f"{first_line(reason)}."
            ) from reason
        self._check(entry, thing)
        checked: Thing = thing
        return checked

    def __getitem__(self, name: str) -> Thing:
        """Return the thing of a name, imported; raises as `entry` and `load`."""
        return self._replaced[name] if name in self._replaced else self.load(self.entry(name))

    def __setitem__(self, name: str, thing: "Thing | str") -> None:
        """Register a thing, or ``module:attribute`` of one, in this process; raises as `register`."""
        self.register(name, thing)

    def register(self, name: str, thing: "Thing | str", module: str = "") -> None:
        """Register a thing, or ``module:attribute`` of one, in this process.

        Args:
            name: Its name.
            thing: The thing, or its place.
            module: Whose it is; empty takes the module that the thing says it is of.

        Raises:
            TakenNameError: The name stands for something else already; names both owners.
            BrokenPartError: The thing is of another kind.
        """
        if not isinstance(name, str) or not name:
            raise BrokenPartError(f"the name of {self.noun} {name!r} must be a text of at least one character.")
        module = module or (thing.partition(":")[0] if isinstance(thing, str) else _module_of(thing))
        new = Entry(name, thing, owner_of_module(module), module)
        for old in self._candidates().get(name, []):
            if self._is_redefined(old, new):
                break
            if _is_same(old, new):
                return
            raise TakenNameError(
                f"{self.noun} '{plain(name)}' cannot be {new.place} of {new.owner}: the name exists already, as "
                f"{old.place} of {old.owner}; take another."
            )
        if not isinstance(thing, str):
            self._check(new, thing)
        self._registered[name] = new

    def __delitem__(self, name: str) -> None:
        """Forget what was registered in this process.

        Raises:
            UnknownNameError: Nothing was registered under this name.
        """
        if name not in self._registered:
            raise UnknownNameError(f"{self.noun} '{plain(name)}' was not registered in this process.")
        del self._registered[name]

    def __contains__(self, name: object) -> bool:
        """Whether something has this name. Imports nothing."""
        return name in self._candidates()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order of `names`. Imports nothing."""
        return iter(self.names())

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._candidates())

    def _candidates(self) -> dict[str, list[Entry]]:
        candidates = {name: [entry] for name, entry in (*self._built_in.items(), *self._registered.items())}
        for name, value, owner in installed().points.get(self.group, ()):
            entry = Entry(name, value, owner)
            if entry not in candidates.setdefault(name, []):
                candidates[name].append(entry)
        return candidates

    def _is_redefined(self, old: Entry, new: Entry) -> bool:
        """Whether a class or function of one name is defined again, as in a notebook: the newer one counts."""
        is_named = not self._is_value and "<" not in getattr(new.target, "__qualname__", "<")
        return is_named and self._registered.get(old.name) is old and old.place == new.place

    def _unknown(self, name: object) -> str:
        owners = {name: entries[0].owner for name, entries in self._candidates().items()}
        shown = [name if owners[name] == OWN else f"{name} (of {owners[name]})" for name in self.names()]
        known = listed(shown, _MOST_NAMES) if shown else f"those that are installed: there is no {self.noun} here"
        problems = "".join(f" {problem}" for problem in installed().problems[:3])
        text = plain(name)
        return f"{self.noun} '{text}' is not one of {known}.{nearest_name(text, self.names())}{problems}"

    def _check(self, entry: Entry, thing: Any) -> None:
        if self._base is not None:
            base = Entry("", self._base, OWN).load()
            is_subclass = isinstance(thing, type) and issubclass(thing, base)
            is_right = isinstance(thing, base) if self._is_value else is_subclass
            wanted = f"is no {'instance' if self._is_value else 'subclass'} of {self._base}"
        else:
            is_right, wanted = callable(thing), "cannot be called"
        if not is_right:
            raise BrokenPartError(
                f"{self.noun} '{plain(entry.name)}' of {entry.owner}: {entry.place} {wanted}; expected: {self.what}"
            )


def _module_of(thing: Any) -> str:
    while isinstance(thing, partial):
        thing = thing.func
    return str(getattr(thing, "__module__", None) or type(thing).__module__)


def _is_same(old: Entry, new: Entry) -> bool:
    if old.target is new.target or old.target == new.place:
        return True
    try:
        return bool(old.load() is new.load())
    except Exception:  # noqa: BLE001 (what cannot be imported is not the same)
        return False
