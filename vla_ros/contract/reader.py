"""Reads a YAML mapping field by field and says, when one is wrong, where it stands and what was expected.

Used for contracts and every other configuration file, so that all of them complain in the same way:
``FILE: PATH expected what, got VALUE. Did you mean …?``
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vla_ros.data_types import UserError, nearest_name

Scalar = TypeVar("Scalar", str, int, float, bool)

_REQUIRED: Any = object()


def load_yaml(path: Path, error: type[UserError]) -> Any:
    """Return the parsed content of a YAML file.

    Raises:
        UserError: Of the given type, when the file is missing, unreadable or not YAML.
    """
    if not path.is_file():
        nearby = nearest_name(path.name, (p.name for p in path.parent.glob("*.yaml")))
        raise error(f"{path}: no such file.{nearby}")
    try:
        text = path.read_text(encoding="utf-8")
        repeated = _repeated_key(yaml.compose(text, yaml.SafeLoader))
        content = yaml.safe_load(text)
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}.") from reason
    except (yaml.YAMLError, ValueError, RecursionError) as reason:  # not UTF-8, no such date, an alias of itself
        raise error(f"{path}: not readable as YAML: {' '.join(str(reason).split())}") from reason
    if repeated:
        raise error(f"{path}: {repeated}")
    return content


def _repeated_key(node: yaml.Node | None) -> str:
    """Return a complaint about the first field given twice; YAML alone keeps the last one in silence."""
    if isinstance(node, yaml.SequenceNode):
        return next((found for item in node.value if (found := _repeated_key(item))), "")
    if not isinstance(node, yaml.MappingNode):
        return ""
    seen: set[str] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                return f"line {key.start_mark.line + 1}: '{key.value}' is given twice; keep one of them."
            seen.add(key.value)
        if found := _repeated_key(value):
            return found
    return ""


def _yaml_hint(kind: type, value: object) -> str:
    """Explain the two places where YAML 1.1 reads something else than was meant."""
    if kind is str and isinstance(value, (bool, int, float)):
        return "; write it in quotes"
    if kind is float and isinstance(value, str) and "e" in value.lower() and "." not in value:
        return "; write the number with a point, like 1.0e-3"
    return ""


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
            raise self.fail("", f"expected a mapping of fields, got {content!r}")
        self.content: Mapping[str, Any] = content

    def fail(self, field: str, message: str) -> UserError:
        """Return the error that places `message` at `field` of this section."""
        place = ".".join(part for part in (self.path, field) if part)
        return self.error(f"{self.source}: {place + ' ' if place else ''}{message}")

    def __contains__(self, field: str) -> bool:
        return self.content.get(field) is not None

    def raw(self, field: str, default: Any = _REQUIRED) -> Any:
        """Return a field as it stands in the file; without a default it must be there."""
        self._taken.add(field)
        value = self.content.get(field)
        if value is not None:
            return value
        if default is _REQUIRED:
            misspelt = difflib.get_close_matches(field, map(str, self.content), n=1)
            hint = f"; the file says '{misspelt[0]}'" if misspelt else ""
            raise self.fail(field, f"is required and missing{hint}")
        return default

    def scalar(
        self,
        field: str,
        kind: type[Scalar],
        default: Any = _REQUIRED,
        *,
        choices: Sequence[Scalar] | None = None,
        minimum: float | None = None,
        exclusive: bool = False,
    ) -> Scalar:
        """Return a string, bool, int or float field, checked against its choices or its minimum."""
        value = self.raw(field, default)
        if value is default and default is not _REQUIRED:
            return value  # type: ignore[no-any-return]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError as reason:  # of 309 digits or more
                raise self.fail(field, "expected a finite number, got a whole number that is too large") from reason
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.fail(field, f"expected {kind.__name__}, got {value!r}{_yaml_hint(kind, value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.fail(field, f"expected a finite number, got {value!r}")
        if choices is not None and value not in choices:
            hint = nearest_name(str(value), map(str, choices))
            raise self.fail(field, f"'{value}' is not one of {', '.join(map(str, choices))}.{hint}")
        if minimum is not None and (value < minimum or (exclusive and value == minimum)):  # type: ignore[operator]
            raise self.fail(field, f"must be {'above' if exclusive else 'at least'} {minimum:g}, got {value!r}")
        return value

    def optional(self, field: str, kind: type[Scalar], **bounds: Any) -> Scalar | None:
        """Return a scalar field, or None where it is absent."""
        if field not in self:
            self._taken.add(field)
            return None
        value: Scalar = self.scalar(field, kind, **bounds)
        return value

    def items(
        self,
        field: str,
        kind: type[Scalar],
        default: Any = _REQUIRED,
        *,
        length: int | None = None,
        choices: Sequence[Scalar] | None = None,
    ) -> tuple[Scalar, ...]:
        """Return a list of scalars of one kind, of the given length and out of the choices when there are any."""
        value = self.raw(field, default)
        if value is default and default is not _REQUIRED:
            return value  # type: ignore[no-any-return]
        if not isinstance(value, list):
            raise self.fail(field, f"expected a list of {kind.__name__}, got {value!r}")
        if length is not None and len(value) != length:
            raise self.fail(field, f"expected {length} entries, got {len(value)}: {value!r}")
        holder = Section(self.source, self.path, {f"{field}[{i}]": item for i, item in enumerate(value)}, self.error)
        return tuple(holder.scalar(name, kind, choices=choices) for name in holder.content)

    def section(self, field: str, default: Any = _REQUIRED) -> "Section":
        """Return a nested mapping as a section of its own."""
        path = f"{self.path}.{field}" if self.path else field
        return type(self)(self.source, path, self.raw(field, default), self.error)

    def sections(self, field: str, default: Any = _REQUIRED) -> "list[Section]":
        """Return a list of mappings as sections."""
        value = self.raw(field, default)
        if not isinstance(value, list):
            raise self.fail(field, f"expected a list of mappings, got {value!r}")
        path = f"{self.path}.{field}" if self.path else field
        return [type(self)(self.source, f"{path}[{i}]", item, self.error) for i, item in enumerate(value)]

    def finish(self) -> None:
        """Refuse fields that nobody took: a misspelt option must not be ignored in silence."""
        for field in self.content:
            if field not in self._taken:
                known = sorted(self._taken)
                hint = nearest_name(str(field), known)
                raise self.fail(str(field), f"is not a field here; fields are {', '.join(known)}.{hint}")
