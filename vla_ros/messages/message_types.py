"""ROS message definitions without ROS: bytes to message and back by rosbags' typestore, with more packages registered.

The definitions of vla_ros_msgs, and of packages that rosbags does not know, are read from their ``.msg`` files, found
where they are installed (ament prefixes, the Python environment) or in the source tree. A bag carries its own
definitions, so reading one needs none of these.
"""

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.serde.utils import SIZEMAP
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vla_ros.contract.types import message_types
from vla_ros.data_types import DatasetError, DecodeError, nearest_name
from vla_ros.messages import cdr
from vla_ros.messages.message_definitions import check_layout, parse_definition

INTERFACES = "vla_ros_msgs"


def typestore() -> Typestore:
    """Return the store with the message types of this ROS distribution (Kilted without one) and of every known row.

    The types of packages that rosbags does not know, ours and those of rows that other packages add, are read from
    their ``.msg`` files, where they are installed.
    """
    return _typestore(frozenset(name.partition("/")[0] for name in message_types()))


@lru_cache(maxsize=8)
def _typestore(packages: frozenset[str]) -> Typestore:
    name = f"ros2_{os.environ.get('ROS_DISTRO', 'kilted')}"
    known = {store.value: store for store in Stores}
    store = get_typestore(known.get(name, Stores.ROS2_KILTED))
    held = {name.partition("/")[0] for name in store.fielddefs}
    types: dict[str, Any] = {}
    open_packages = {*packages, INTERFACES} - held
    while open_packages:
        package = open_packages.pop()
        held.add(package)
        own = _types_of(package)
        types |= own
        names = (part for _, fields in own.values() for _, field in fields for part in _names(field))
        open_packages |= {part.partition("/")[0] for part in names} - held
    store.register({name: definition for name, definition in types.items() if _is_whole(name, types, store)})
    return store


def _types_of(package: str) -> dict[str, Any]:
    """Return the definitions of a package's messages; none where it is not installed."""
    folder = interface_folder(package)
    types: dict[str, Any] = {}
    for path in sorted(folder.glob("*.msg")) if folder is not None else ():
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{package}/msg/{path.stem}"))
    return types


def _is_whole(name: str, types: Mapping[str, Any], store: Typestore) -> bool:
    """Whether all that a type refers to is known: one that refers to a package that is not there cannot be read."""
    open_names, seen = [name], set()
    while open_names:
        current = open_names.pop()
        if current in seen or current in store.fielddefs:
            continue
        seen.add(current)
        if current not in types:
            return False
        open_names += [part for _, field in types[current][1] for part in _names(field)]
    return True


def interface_folder(package: str = INTERFACES) -> Path | None:
    """Return the folder of a package's ``.msg`` files, or None where there is none."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    candidates = [Path(prefix) / "share" / package / "msg" for prefix in prefixes if prefix]
    source = Path(__file__).resolve().parents[2]
    candidates += [source / package / "msg", source / "interfaces" / package / "msg"]
    return next((folder for folder in candidates if any(folder.glob("*.msg"))), None)


def store_with(definitions: Mapping[str, MessageDefinition]) -> Typestore:
    """Return a store in which the given definitions take precedence.

    Between distributions a type may differ (sensor_msgs/Range gained a field), so a bag's bytes are read by the
    definitions that it carries.

    Args:
        definitions: ROS type → definition; types without one are left to `typestore`.

    Raises:
        DatasetError: A definition cannot be parsed, or two of them contradict each other.
    """
    store = get_typestore(Stores.EMPTY)
    for name, definition in definitions.items():
        _register(store, name, _needed(name, definition))
    base = typestore()
    store.register({name: base.fielddefs[name] for name in base.fielddefs if name not in store.fielddefs})
    return store


def store_for(name: str, definition: MessageDefinition) -> Typestore:
    """Return a store that holds one type, as the definition has it, and what it refers to.

    Each type of a bag gets its own: what is wrong with another one does not matter to it, and code is generated for
    nothing that is not read.

    Args:
        name: ROS type.
        definition: That the bag carries; of the format NONE for the type of this distribution.

    Raises:
        DatasetError: The definition cannot be parsed, or is not within the limits of `message_definitions`.
        DecodeError: There is no definition, and this distribution does not know the type.
    """
    return _store_for(name, definition.format, definition.data)


def have_same_fields(name: str, one: MessageDefinition, other: MessageDefinition) -> bool:
    """Whether two definitions of a type put the same fields into its bytes; comments and constants do not count.

    Raises:
        DatasetError: As `store_for`.
    """
    layouts = []
    for definition in (one, other):
        types = _needed(name, definition)
        layouts.append({part: fields for part, (_, fields) in types.items()})
    return layouts[0] == layouts[1]


@lru_cache(maxsize=64)  # the bags of one recording carry the same definitions
def _store_for(name: str, form: MessageDefinitionFormat, text: str) -> Typestore:
    if form == MessageDefinitionFormat.NONE:
        if name not in typestore().fielddefs:
            raise _unknown(name, typestore())
        return typestore()
    store = get_typestore(Stores.EMPTY)
    _register(store, name, _needed(name, MessageDefinition(form, text)))
    return store


def _needed(name: str, definition: MessageDefinition) -> dict[str, Any]:
    """Return a definition's type and those that it refers to, the ones that it does not carry from `typestore`."""
    if definition.format == MessageDefinitionFormat.NONE:
        return {}
    parsed = parse_definition(name, definition)
    if name not in parsed:
        raise DatasetError(f"definition of {name}: defines {', '.join(sorted(parsed))[:120]} and not that type.")
    types = {**typestore().fielddefs, **parsed}
    check_layout(name, types)
    needed, open_names = {}, [name]
    while open_names:
        current = open_names.pop()
        if current not in needed:
            needed[current] = types[current]
            open_names += [part for _, field in types[current][1] for part in _names(field)]
    return needed


def _names(field: Any) -> list[str]:
    kind, content = field
    if kind == Nodetype.NAME:
        return [content]
    return _names(content[0]) if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE) else []


def _register(store: Typestore, name: str, types: dict[str, Any]) -> None:
    try:
        store.register(types)
    except Exception as reason:  # generated code can fail in any way
        raise DatasetError(f"definition of {name}: {' '.join(str(reason).split())[:200]}") from reason


def _unknown(type_name: str, store: Typestore) -> DecodeError:
    missing = type_name.startswith(f"{INTERFACES}/") and interface_folder() is None
    hint = f" {INTERFACES} is not installed." if missing else nearest_name(type_name, store.fielddefs)
    return DecodeError(f"message type '{type_name[:80]}' is unknown.{hint}")


def deserialize_with(store: Typestore, raw: bytes | memoryview, type_name: str) -> Any:
    """Return the message that CDR bytes hold, by the types of a store.

    Raises:
        DecodeError: The type is unknown, or the bytes are damaged or of another type.
    """
    if type_name not in store.fielddefs:
        raise _unknown(type_name, store)
    cdr.check(raw, _layout(store, type_name), type_name)
    try:
        return store.deserialize_cdr(raw, type_name)
    except Exception as reason:  # generated code meets damaged bytes in any way: index, struct, unicode, assertion
        raise cdr.damaged(raw, type_name) from reason


@lru_cache(maxsize=256)
def _layout(store: Typestore, type_name: str) -> cdr.Layout:
    return cdr.Layout(_message(store, type_name))


def _message(store: Typestore, type_name: str) -> cdr.Message:
    return cdr.Message(tuple((name, _kind(store, kind)) for name, kind in store.fielddefs[type_name][1]))


def _kind(store: Typestore, description: Any) -> cdr.Kind:
    """Translate rosbags' description of a field: a kind of node and what belongs to it."""
    node, content = description
    if node == Nodetype.BASE:
        return cdr.Text() if content[0] == "string" else cdr.Number(SIZEMAP[content[0]])
    if node == Nodetype.NAME:
        return _message(store, content)
    element = _kind(store, content[0])
    return cdr.Array(element, content[1]) if node == Nodetype.ARRAY else cdr.Sequence(element)


def deserialize(raw: bytes, type_name: str) -> Any:
    """Return the message that CDR bytes hold, by the types of `typestore`; errors as `deserialize_with`."""
    return deserialize_with(typestore(), raw, type_name)


def serialize(message: Any, type_name: str) -> bytes:
    """Return the CDR bytes of a rosbags message of `typestore`."""
    return bytes(typestore().serialize_cdr(message, type_name))
