"""Sections of files → configuration dataclasses → plain data. The dataclass is the schema; what a field is stands once.

Nothing here knows which configuration it reads. What depends on another field is the reader's matter, who narrows
fields by the context (`Narrow`), or the dataclass's own (``__post_init__``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from vla_ros.data_types import ConfigError
from vla_ros.data_types.foreign_text import plain
from vla_ros.schema.about import About, Checked, SchemaField, fields_of
from vla_ros.schema.section import Section

Options = TypeVar("Options")

_SAME: Any = object()


@dataclass(frozen=True)
class Narrow:
    """What the context says about a field beyond its declaration.

    Attributes:
        default: What it is when left out; a dataclass gives every field of a section that is left out.
        length: Entries of a list.
        choices: Strings allowed.
        absent: Whether it is not read here: it means nothing, or the reader has read it and gives it as the default.
        required: Whether the file must have it.
        within: Of a section: what the context says about its fields.
    """

    default: Any = _SAME
    length: int | None = None
    choices: Sequence[str] | None = None
    absent: bool = False
    required: bool = False
    within: "Context | None" = None


ABSENT = Narrow(absent=True)
"""A field that means nothing in this context."""

REQUIRED = Narrow(required=True)

Context = Mapping[str, Narrow]


def given(value: Any) -> Narrow:
    """Return what stands for a field whose value the reader has already."""
    return Narrow(absent=True, default=value)


def read_dataclass(section: Section, schema: type[Options], context: Context | None = None) -> Options:
    """Build a dataclass from a section whose fields stand where the dataclass declares them.

    Understands bool, int, float, str, ``Literal``, ``X | None``, ``tuple[X, ...]``, ``tuple[X, Y]``, nested
    dataclasses, tuples of them, ``dict[str, X]`` and ``Any``.

    Args:
        section: What the file says.
        schema: The dataclass.
        context: Field → what the context says about it.

    Raises:
        UserError: Of the section's type; a field is unknown, missing, of another type, or contradicts another.
    """
    values = read_fields(section, schema, context or {})
    try:
        return schema(**values)
    except ConfigError as reason:
        raise section.fail("", str(reason)) from reason


def read_fields(section: Section, schema: type, context: Context) -> dict[str, Any]:
    """Return the values of the fields that the file gives or the context narrows; arguments as `read_dataclass`."""
    values: dict[str, Any] = {}
    parts: dict[str, Section] = {}
    for entry in fields_of(schema):
        narrow = context.get(entry.name, Narrow())
        if not entry.about.in_file or narrow.absent:
            if narrow.default is not _SAME:
                values[entry.name] = narrow.default
            continue
        at, name = section, entry.place
        if "." in name:
            part, _, name = name.partition(".")
            at = parts[part] if part in parts else parts.setdefault(part, section.section(part, {}))
        if _is_left_out(at, name, entry, narrow, null_is_nothing=not issubclass(schema, Checked)):
            at.raw(name, None)
            if narrow.default is not _SAME:
                values[entry.name] = narrow.default
            continue
        bounds = About("") if issubclass(schema, Checked) else entry.about  # those are checked when built
        values[entry.name] = _value(at, name, entry, bounds, narrow)
    for part_section in (*parts.values(), section):
        part_section.finish()
    return values


def to_plain(value: Any) -> Any:
    """Return dataclasses as mappings, tuples as lists and paths as strings, ready for YAML or JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: to_plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _is_left_out(at: Section, name: str, entry: SchemaField, narrow: Narrow, *, null_is_nothing: bool) -> bool:
    if name in at or narrow.required:
        return False
    if name in at.content and not null_is_nothing:  # null is a value, or wrong
        return False
    return narrow.default is not _SAME or entry.has_default


def _value(at: Section, name: str, entry: SchemaField, bounds: About, narrow: Narrow) -> Any:
    if entry.nullable and name in at.content and name not in at:
        return at.raw(name, None)
    if is_dataclass(entry.kind):
        nested: Any = entry.kind
        return read_dataclass(at.section(name), nested, {**_defaults(narrow.default, nested), **(narrow.within or {})})
    if narrow.choices is None and entry.about.choices is not None:
        narrow = replace(narrow, choices=entry.about.choices())
    return _read(at, name, entry.kind, bounds, narrow)


def _defaults(given: Any, schema: type) -> Context:
    if not is_dataclass(given) or isinstance(given, type):
        return {}
    return {entry.name: Narrow(default=getattr(given, entry.name)) for entry in fields_of(schema)}


def _read(at: Section, name: str, kind: Any, about: About, narrow: Narrow) -> Any:
    arguments = get_args(kind)
    if kind is Any:  # null too is a value of it
        return at.raw(name, None) if name in at.content else at.raw(name)
    if get_origin(kind) is Literal:
        return at.scalar(name, str, choices=arguments)
    if get_origin(kind) is dict:
        section = at.section(name)
        for key in section.content:
            if not isinstance(key, str):
                raise section.fail(plain(key), "must be text; write it in quotes")
        return {key: _read(section, key, arguments[1], about, narrow) for key in section.content}
    if get_origin(kind) is tuple and not is_dataclass(arguments[0]):
        length = narrow.length if arguments[-1] is Ellipsis else len(arguments)
        return at.items(name, arguments[0], length=length, choices=narrow.choices, about=about)
    if get_origin(kind) is tuple or is_dataclass(kind):
        return _read_mapping(at, name, kind)
    return at.scalar(name, kind, choices=narrow.choices, about=about)


def _read_mapping(at: Section, name: str, kind: Any) -> Any:
    """Return a dataclass, or a tuple of them."""
    if get_origin(kind) is tuple:
        return tuple(read_dataclass(section, get_args(kind)[0]) for section in at.sections(name))
    schema: type = kind
    return read_dataclass(at.section(name), schema)
