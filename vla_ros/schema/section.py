"""Reads a YAML mapping field by field and says, when one is wrong, where it stands and what was expected.

Every configuration file is read through it, so that all of them complain in the same way:
``FILE: PATH expected what, got VALUE. Did you mean …?`` What a file says is repeated cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vla_ros.data_types import UserError, nearest_name
from vla_ros.data_types.foreign_text import plain
from vla_ros.schema.about import About
from vla_ros.schema.values import LONGEST_VALUE, judge, shown

Scalar = TypeVar("Scalar", str, int, float, bool)

LONGEST_SENTENCE = 1500
_REQUIRED: Any = object()
_ANY = About("")


class Section:
    """One mapping of a configuration file. Take every field, then call `finish`.

    Args:
        source: Name of the file, for messages.
        path: Where the mapping stands in the file, e.g. ``inputs[2].image``; empty at the top.
        content: The mapping; anything else is refused.
        error: Type of the errors raised.
    """

    def __init__(self, source: str, path: str, content: object, error: type[UserError]) -> None:
        self.source, self.path, self.error = source, path, error
        self._taken: set[str] = set()
        if not isinstance(content, Mapping):
            raise self.fail("", f"expected a mapping of fields, got {shown(content)}")
        self.content: Mapping[str, Any] = content

    def fail(self, field: str, message: str) -> UserError:
        """Return the error that places `message` at `field` of this section."""
        place = plain(".".join(part for part in (self.path, field) if part), LONGEST_VALUE)
        return self.error(f"{self.source}: {place + ' ' if place else ''}{plain(message, LONGEST_SENTENCE)}")

    def __contains__(self, field: str) -> bool:
        return self.content.get(field) is not None

    def raw(self, field: str, default: Any = _REQUIRED) -> Any:
        """Return a field as it stands in the file; without a default it must be there."""
        self._taken.add(field)
        value = self.content.get(field)
        if value is not None:
            return value
        if default is _REQUIRED:
            misspelt = nearest_name(field, map(str, self.content)).removeprefix(" Did you mean '").removesuffix("'?")
            hint = f"; the file says '{misspelt}'" if misspelt else ""
            raise self.fail(field, f"is required and missing{hint}")
        return default

    def judged(
        self, field: str, value: object, kind: type[Scalar], about: About, choices: Sequence[Scalar] | None = None
    ) -> Scalar:
        """Return a value of this section that is of its kind, within its bounds and one of its choices."""
        try:
            checked: Scalar = judge(value, kind, about, choices)
        except ValueError as reason:
            raise self.fail(field, str(reason)) from None
        return checked

    def scalar(
        self,
        field: str,
        kind: type[Scalar],
        default: Any = _REQUIRED,
        *,
        choices: Sequence[Scalar] | None = None,
        about: About = _ANY,
    ) -> Scalar:
        """Return a string, bool, int or float field, checked against its choices and bounds."""
        value = self.raw(field, default)
        if value is default and default is not _REQUIRED:
            return value  # type: ignore[no-any-return]
        return self.judged(field, value, kind, about, choices)

    def optional(self, field: str, kind: type[Scalar]) -> Scalar | None:
        """Return a scalar field, or None where it is absent."""
        return self.scalar(field, kind) if field in self else self.raw(field, None)

    def items(
        self,
        field: str,
        kind: type[Scalar],
        default: Any = _REQUIRED,
        *,
        length: int | None = None,
        choices: Sequence[Scalar] | None = None,
        about: About = _ANY,
    ) -> tuple[Scalar, ...]:
        """Return a list of scalars of one kind, of the given length and out of the choices when there are any."""
        value = self.raw(field, default)
        if value is default and default is not _REQUIRED:
            return value  # type: ignore[no-any-return]
        if not isinstance(value, list):
            raise self.fail(field, f"expected a list of {kind.__name__}, got {shown(value)}")
        if length is not None and len(value) != length:
            raise self.fail(field, f"expected {length} entries, got {len(value)}: {shown(value)}")
        return tuple(self.judged(f"{field}[{i}]", item, kind, about, choices) for i, item in enumerate(value))

    def section(self, field: str, default: Any = _REQUIRED) -> "Section":
        """Return a nested mapping as a section of its own."""
        path = f"{self.path}.{field}" if self.path else field
        return type(self)(self.source, path, self.raw(field, default), self.error)

    def sections(self, field: str, default: Any = _REQUIRED) -> "list[Section]":
        """Return a list of mappings as sections."""
        value = self.raw(field, default)
        if not isinstance(value, list):
            raise self.fail(field, f"expected a list of mappings, got {shown(value)}")
        path = f"{self.path}.{field}" if self.path else field
        return [type(self)(self.source, f"{path}[{i}]", item, self.error) for i, item in enumerate(value)]

    def finish(self) -> None:
        """Refuse fields that nobody took: a misspelt option must not be ignored in silence."""
        for field in self.content:
            if field not in self._taken:
                known = sorted(self._taken)
                hint = nearest_name(str(field), known)
                raise self.fail(str(field), f"is not a field here; fields are {', '.join(known)}.{hint}")
