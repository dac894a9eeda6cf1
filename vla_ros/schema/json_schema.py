"""JSON schemas of configuration files (draft 2020-12), for editors that complete and check YAML as it is typed.

They say what a field is, its bounds and what it is for. What depends on another field is for the reader to check.
"""

from collections.abc import Collection
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from vla_ros.schema.about import About, SchemaField, fields_of, file_form
from vla_ros.schema.reading import to_plain
from vla_ros.schema.values import adapter

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(schema: type, title: str, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return the JSON schema of a file.

    Args:
        schema: The dataclass that the file becomes.
        title: What kind of file it is.
        leave_out: Fields that the file does not give.
    """
    return {"$schema": DIALECT, "title": title, **_mapping(schema, leave_out)}


def _mapping(schema: type, leave_out: Collection[str] = ()) -> dict[str, Any]:
    top = _object()
    for entry in fields_of(file_form(schema)):
        if not entry.about.in_file or entry.name in leave_out:
            continue
        part, _, name = entry.place.rpartition(".")
        holder = top["properties"].setdefault(part, _object()) if part else top
        holder["properties"][name] = _field(entry)
        if not entry.has_default and (not entry.about.default or entry.about.default == "required"):
            holder["required"].append(name)
    return top


def _object() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def _field(entry: SchemaField) -> dict[str, Any]:
    about = entry.about
    found: dict[str, Any] = _kind(entry.kind, about)
    if entry.named is not None:
        found = {"enum": list(entry.named.known())}
    if entry.nullable:
        found = {"anyOf": [found, {"type": "null"}]}
    unit = f" [{about.unit}]" if about.unit else ""
    only = f" Only {about.only.words}." if about.only is not None else ""
    if about.description:
        found["description"] = f"{about.description}{unit}{only}"
    if entry.has_default and not about.default and not is_dataclass(entry.default):
        found["default"] = to_plain(entry.default)
    return found


def _kind(kind: Any, about: About) -> dict[str, Any]:
    arguments = get_args(kind)
    if kind is Any or about.json_types:
        return {"type": list(about.json_types)} if about.json_types else {}
    if is_dataclass(kind):
        one = _mapping(kind)  # type: ignore[arg-type]  # a type, not an instance
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if about.or_list else one
    if get_origin(kind) is Literal:
        return {"enum": list(arguments)}
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": _kind(arguments[1], about)}
    if get_origin(kind) is tuple:
        length = {} if arguments[-1] is Ellipsis else {"minItems": len(arguments), "maxItems": len(arguments)}
        return {"type": "array", "items": _kind(arguments[0], about), **length}
    return _scalar(kind, about)


def _scalar(kind: Any, about: About) -> dict[str, Any]:
    if kind is str and about.choices is not None:
        return {"enum": list(about.choices())}
    return dict(adapter(kind, about).json_schema())
