"""The docs' tables of a configuration: a row per field, out of its declaration."""

from collections.abc import Callable, Collection
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from vla_ros.schema.about import About, SchemaField, fields_of, file_form
from vla_ros.schema.reading import to_plain
from vla_ros.schema.values import NAMES

Cell = Callable[[SchemaField], str]


def table(
    schema: type, part: str = "", *, extra: tuple[str, Cell] | None = None, leave_out: Collection[str] = ()
) -> str:
    """Return a Markdown table of the fields that a file gives.

    Args:
        schema: The dataclass.
        part: Only the fields of this section inside it, which the dataclass holds as its own; else all others.
        extra: Heading and content of one more column, before the meaning.
        leave_out: Fields that the file does not give.
    """
    heading = ["field", "type", "default", *([extra[0]] if extra else []), "meaning"]
    lines = [_row(heading), "|---" * len(heading) + "|"]
    for entry in fields_of(file_form(schema)):
        holder, _, name = entry.place.rpartition(".")
        if not entry.about.in_file or holder != part or entry.name in leave_out:
            continue
        meaning = entry.about.description
        if entry.about.only is not None:
            meaning = f"{meaning} Only {entry.about.only.words}."
        cells = [f"`{name}`", type_in_words(entry), default_in_words(entry), *([extra[1](entry)] if extra else [])]
        lines.append(_row([*cells, meaning]))
    return "\n".join(lines) + "\n"


def type_in_words(entry: SchemaField) -> str:
    """Return what a field may be."""
    about = entry.about
    if about.kind:
        return about.kind
    choices = get_args(entry.kind) if get_origin(entry.kind) is Literal else about.choices() if about.choices else ()
    choices = entry.named.built_in() if entry.named is not None else choices
    if choices and entry.kind is not tuple:
        return ", ".join(f"`{choice}`" for choice in choices)
    return f"{_kind(entry.kind)}{_bounds(about)}{f', {about.unit}' if about.unit else ''}"


def default_in_words(entry: SchemaField) -> str:
    """Return what a field is when it is left out."""
    if entry.about.default:
        return entry.about.default
    if not entry.has_default:
        return "required"
    value = entry.default
    if value in (None, (), {}, "") or is_dataclass(value):
        return "none" if not is_dataclass(value) else "see there"
    plain = to_plain(value)
    return f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"


def _kind(kind: Any) -> str:
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        if is_dataclass(arguments[0]):
            return "list of mappings"
        length = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"list of {length}{NAMES[arguments[0]]}s"
    if get_origin(kind) is dict or is_dataclass(kind):
        return "mapping"
    return NAMES.get(kind, "any")


def _bounds(about: About) -> str:
    signs = (("≥", about.at_least), (">", about.above), ("≤", about.at_most), ("<", about.below))
    words = " and ".join(f"{sign} {bound:g}" for sign, bound in signs if bound is not None)
    return f" {words}" if words else ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
