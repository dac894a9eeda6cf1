"""Plain data ↔ configuration dataclasses. The dataclass is the schema: names, types, defaults and choices stand once.

Nothing here knows which configuration it reads; a value that contradicts another is the dataclass's own matter
(``__post_init__``).
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vla_ros.contract.reader import Section
from vla_ros.data_types import ConfigError

Options = TypeVar("Options")


def read_dataclass(section: Section, schema: type[Options]) -> Options:
    """Build a dataclass from a section whose fields are named after the dataclass's.

    Understands bool, int, float, str, ``Literal``, ``X | None``, ``tuple[X, ...]``, ``tuple[X, Y]``, nested
    dataclasses, ``dict[str, X]`` and ``Any``.

    Raises:
        UserError: Of the section's type; a field is unknown, missing, of another type, or contradicts another.
    """
    hints = get_type_hints(schema)
    values: dict[str, Any] = {}
    for entry in fields(schema):  # type: ignore[arg-type]  # any dataclass type; typeshed has no bound for it
        has_default = entry.default is not MISSING or entry.default_factory is not MISSING
        if entry.name not in section.content and has_default:
            section.raw(entry.name, None)
            continue
        values[entry.name] = _read(section, entry.name, hints[entry.name])
    section.finish()
    try:
        return schema(**values)
    except ConfigError as reason:
        raise section.fail("", str(reason)) from reason


def to_plain(value: Any) -> Any:
    """Return dataclasses as mappings, tuples as lists and paths as strings, ready for YAML or JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: to_plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _read(section: Section, name: str, kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        if name not in section:
            return section.raw(name, None)
        return _read(section, name, next(a for a in get_args(kind) if a is not type(None)))
    if kind is Any:  # null too is a value of it
        return section.raw(name, None) if name in section.content else section.raw(name)
    if get_origin(kind) is Literal:
        return section.scalar(name, str, choices=get_args(kind))
    if get_origin(kind) in (tuple, dict) or is_dataclass(kind):
        return _read_compound(section, name, kind)
    return section.scalar(name, kind)


def _read_compound(section: Section, name: str, kind: Any) -> Any:
    arguments = get_args(kind)
    if is_dataclass(kind):
        return read_dataclass(section.section(name), kind)  # type: ignore[arg-type]  # a type, not an instance
    if get_origin(kind) is dict:
        nested = section.section(name)
        return {key: _read(nested, key, arguments[1]) for key in nested.content}
    length = None if arguments[-1] is Ellipsis else len(arguments)
    return section.items(name, arguments[0], length=length)
