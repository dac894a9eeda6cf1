"""What is declared about a field: `About` beside its type, `fields_of` to look it up, `Checked` to hold it."""

import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Annotated, Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints, runtime_checkable

from vla_ros.data_types import ConfigError

Form = TypeVar("Form")


@dataclass(frozen=True)
class Only:
    """When an option means something.

    Attributes:
        words: As the end of "it means something only …", e.g. ``with cvae``.
        holds: Whether it does, given the whole configuration.
    """

    words: str
    holds: Callable[[Any], object]


@runtime_checkable
class Named(Protocol):
    """Marks, beside the type, a string that names one of a list that may grow: ``Annotated[str, SomeNamed(…)]``.

    Docs list what is built in, JSON schemas whatever there is. Whoever declares such a mark refuses other names when
    the dataclass is built.
    """

    def built_in(self) -> Sequence[str]:
        """Return the names that there are in any case."""

    def known(self) -> Sequence[str]:
        """Return the names that there are now."""


@dataclass(frozen=True)
class About:
    """What is declared about one field, beside its type and its default.

    Attributes:
        description: One sentence or two.
        unit: Of a number.
        at_least, above, at_most, below: Bounds of a number, or of every number of a list.
        note: Added to the sentence about a bound.
        pattern: Regular expression that a string must match; `mismatch` is said otherwise, with the value at ``{}``.
        choices: Strings allowed, where they are not known to the type.
        only: When the field means something; elsewhere it must be left at its default.
        unhashed: Why the field does not count in the contract's hash; empty where it does.
        default: What docs say of a default that depends on something else.
        kind: What docs say of the type where its name says too little.
        json_types: What JSON schemas say of the type, where the file may give it in other forms too.
        place: Where the field stands in the file, when that is not its name: ``workspace.min``.
        in_file: Whether a file may give it.
        or_list: Of a section: whether a file may give a list of several in its place, which the reader then joins.
    """

    description: str
    unit: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    note: str = ""
    pattern: str = ""
    mismatch: str = "'{}' is not of the form expected"
    choices: Callable[[], Sequence[str]] | None = None
    only: Only | None = None
    unhashed: str = ""
    default: str = ""
    kind: str = ""
    json_types: tuple[str, ...] = ()
    place: str = ""
    in_file: bool = True
    or_list: bool = False

    @property
    def bounds(self) -> str:
        """The bounds in words, empty where there are none."""
        low, high = (self.at_least, self.above), (self.at_most, self.below)
        if (low, high) in (((0, None), (1, None)), ((None, 0), (None, 1))):
            return "between 0 and 1"
        words = (("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below))
        return " and ".join(f"{word} {bound:g}" for word, bound in words if bound is not None)

    def holds(self, value: Any) -> bool:
        """Whether a number, or every one of a list, is within the bounds; NaN never is."""
        if isinstance(value, tuple | list):
            return all(self.holds(item) for item in value)
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class SchemaField:
    """One field of a configuration.

    Attributes:
        name: Of the dataclass's field.
        kind: Its type without None and without annotation.
        nullable: Whether None is a value of it.
        about: What is declared about it.
        declared: The dataclass's own entry, with the default.
        named: What it is a name of, None of a string of any other kind.
    """

    name: str
    kind: Any
    nullable: bool
    about: About
    declared: "Field[Any]"
    named: Named | None = None

    @property
    def place(self) -> str:
        """Where it stands in the file, within its section."""
        return self.about.place or self.name

    @property
    def has_default(self) -> bool:
        """Whether it may be left out."""
        return self.declared.default is not MISSING or self.declared.default_factory is not MISSING

    @property
    def default(self) -> Any:
        """What it is when left out."""
        if self.declared.default_factory is not MISSING:
            return self.declared.default_factory()
        return self.declared.default


_FILE_FORMS: dict[type, type] = {}


def file_form_of(schema: type) -> Callable[[type[Form]], type[Form]]:
    """Decorate the dataclass that a file holds where another one is made of it."""

    def register(form: type[Form]) -> type[Form]:
        _FILE_FORMS[schema] = form
        return form

    return register


def file_form(schema: type) -> type:
    """Return the dataclass that a file holds: the schema itself, unless it has a form of its own there."""
    return _FILE_FORMS.get(schema, schema)


def fields_of(schema: type) -> tuple[SchemaField, ...]:
    """Return the fields of a configuration dataclass, in order."""
    return _fields_of(schema)


@cache
def _fields_of(schema: Any) -> tuple[SchemaField, ...]:
    hints = get_type_hints(schema, include_extras=True)
    found = []
    for entry in fields(schema):
        kind, about = hints[entry.name], About("")
        nullable, named = False, None
        while True:
            if get_origin(kind) is Annotated:
                kind, *extras = get_args(kind)
                about = next((extra for extra in extras if isinstance(extra, About)), about)
                named = next((extra for extra in extras if isinstance(extra, Named)), named)
            elif get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
                nullable = True
                kind = Union[tuple(a for a in get_args(kind) if a is not type(None))]  # noqa: UP007  # built, not written
            else:
                break
        found.append(SchemaField(entry.name, kind, nullable, about, entry, named))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of configurations that are checked whenever they are built, from a file or in code."""

    def __post_init__(self) -> None:
        """Hold the declared bounds, and refuse options that mean nothing beside the others.

        Raises:
            ConfigError: Names the option, its value and what was expected.
        """
        for entry in fields_of(type(self)):
            value, about = getattr(self, entry.name), entry.about
            if about.bounds and value is not None and not about.holds(value):
                shown = f"{value:g}" if isinstance(value, float) else f"{_listed(value)}"
                all_of = "all " if isinstance(value, tuple | list) else ""
                note = f"; {about.note}" if about.note else ""
                raise ConfigError(f"{entry.name}={shown} must {all_of}be {about.bounds}{note}.")
        self._refuse_meaningless()

    def _refuse_meaningless(self) -> None:
        """Refuse options that mean nothing beside the others; one at its default is never refused.

        Raises:
            ConfigError: Names the option and when it means something.
        """
        for entry in fields_of(type(self)):
            only = entry.about.only
            if only is None or not entry.has_default:
                continue
            value = getattr(self, entry.name)
            if value != entry.default and not only.holds(self):
                raise ConfigError(f"{entry.name}={_listed(value)} means something only {only.words}; remove it.")


def _listed(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
