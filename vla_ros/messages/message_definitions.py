"""Message definitions that a stranger wrote, parsed within limits: rosbags turns what is parsed into code.

The texts come out of bags. A parser that evaluates constants, tries alternatives again and follows names can be kept
busy for hours by a line of text, so what no message definition needs is refused before it is parsed.
"""

import re
from collections.abc import Mapping
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.typesys import get_types_from_idl, get_types_from_msg

from vla_ros.data_types import DatasetError

MAX_CHARACTERS = 300_000
"""Of one definition with all that it refers to; the largest of ROS 2 and MoveIt have a fifth of it."""
MAX_TYPES = 1_000
MAX_ARRAY = 1 << 24
"""Numbers in an array of fixed length."""
MAX_PARTS = 20_000
"""Fields of a message, those of all its parts included; code is generated for each."""
_MAX_DEPTH = 40
_MAX_VALUES, _MAX_PARENTHESES = 3_000, 20
"""Constants and annotations of an IDL text, and those of them that compute in parentheses: rosbags' parser takes
milliseconds for each of the former, a third of a second for each of the latter."""
_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z_]\w*)+", re.ASCII)
_FIELD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_COMMENT_OR_TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', re.DOTALL)
_ANNOTATION = re.compile(r"@\s*[\w:]+\s*\([^()]*\)")
_DIGITS = re.compile(r"[0-9]{21}")
_NUMBER = re.compile(r"\b(?:0[xX][0-9a-fA-F]+|[0-9]+)\b")
_OPERATORS = re.compile(r"[\s()*+\-|&^~<>%/]*")


def parse_definition(name: str, definition: MessageDefinition) -> dict[str, Any]:
    """Return the types that a definition defines: the named one, and those that it carries along.

    Args:
        name: ROS type, ``pkg/msg/Type``.
        definition: Text and its form.

    Raises:
        DatasetError: It is malformed, or holds what no message needs; one sentence that begins with the type.
    """
    short = name if len(name) <= 80 else name[:77] + "…"
    place = f"definition of {short}"
    if not _NAME.fullmatch(name):
        raise DatasetError(f"{place}: that is no name of a ROS type.")
    text = definition.data
    if len(text) > MAX_CHARACTERS:
        raise DatasetError(f"{place}: has {len(text)} characters, more than {MAX_CHARACTERS}.")
    if definition.format == MessageDefinitionFormat.IDL:
        _check_idl(text, place)
    elif _DIGITS.search(text):
        raise DatasetError(f"{place}: holds a number of more than 20 digits.")
    try:
        if definition.format == MessageDefinitionFormat.MSG:
            types = get_types_from_msg(text, name)
        else:
            types = get_types_from_idl(text)
    except Exception as reason:  # the parser fails in many ways: its own error, recursion, arithmetic, assertions
        said = " ".join(str(reason).split())[:120]
        raise DatasetError(f"{place}: not readable ({type(reason).__name__}: {said})") from reason
    if len(types) > MAX_TYPES:
        raise DatasetError(f"{place}: defines {len(types)} types, more than {MAX_TYPES}.")
    for other, (_, fields) in types.items():
        if not _NAME.fullmatch(other) or not all(_FIELD.fullmatch(field) for field, _ in fields):
            raise DatasetError(f"{place}: holds a name that is no identifier.")
    return dict(types)


def _check_idl(text: str, place: str) -> None:
    """Refuse expressions that take long to parse or become large.

    Numbers may be added up and shifted where all of them stand there as digits; a constant that is multiplied with
    other constants can grow without end.
    """
    plain = _COMMENT_OR_TEXT.sub(" ", text)
    if _DIGITS.search(plain):
        raise DatasetError(f"{place}: holds a number of more than 20 digits.")
    for character, deepest in (("()", 1), ("{}", 12), ("<>", 6)):
        if _depth(plain, *character) > deepest:
            raise DatasetError(f"{place}: '{character[0]}' is nested more than {deepest} deep.")
    bare = _ANNOTATION.sub(" ", plain)
    if plain.count("=") > _MAX_VALUES or bare.count("(") > _MAX_PARENTHESES:
        raise DatasetError(f"{place}: holds more constants than any message has.")
    for statement in bare.split(";"):
        if "*" not in statement and "<<" not in statement:
            continue
        value = statement.partition("=")[2]
        shifts = re.findall(r"<<\s*\(?\s*(\w*)", value)
        if (
            not value
            or not _OPERATORS.fullmatch(_NUMBER.sub("", value))
            or sum(map(value.count, "*+-|&^~<>%/")) > 16
            or any(not shift.isdigit() or int(shift) > 63 for shift in shifts)
        ):
            raise DatasetError(f"{place}: computes '{' '.join(value.split())[:60]}'; write constants as numbers.")


def _depth(text: str, opening: str, closing: str) -> int:
    depth = deepest = 0
    for character in re.findall(f"[{re.escape(opening + closing)}]", text.replace("<<", " ")):
        depth = depth + 1 if character == opening else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def check_layout(name: str, types: Mapping[str, Any]) -> None:
    """Refuse a type that contains itself, or from which more code or larger arrays would follow than any message has.

    Args:
        name: ROS type.
        types: ROS type → (constants, fields), of all that it refers to.

    Raises:
        DatasetError: Says which type.
    """
    _Layout(name, types).parts(name, ())


class _Layout:
    """Counts the fields of a type, those of its parts included."""

    def __init__(self, root: str, types: Mapping[str, Any]) -> None:
        self._place, self._types = f"definition of {root[:80]}", types
        self._known: dict[str, int] = {}

    def parts(self, name: str, above: tuple[str, ...]) -> int:
        """Return how many fields a type has that lies within the types `above`."""
        if name in self._known:
            return self._known[name]
        if name in above or len(above) > _MAX_DEPTH:
            raise DatasetError(f"{self._place}: the type {name[:80]} contains itself, or is nested too deep.")
        if name not in self._types:
            raise DatasetError(f"{self._place}: the type {name[:80]} is defined nowhere.")
        total = 1
        for field, description in self._types[name][1]:
            total += self._field(f"{name[:80]}.{field[:80]}", description, (*above, name))
            if total > MAX_PARTS:
                raise DatasetError(f"{self._place}: has more than {MAX_PARTS} fields.")
        self._known[name] = total
        return total

    def _field(self, place: str, description: Any, above: tuple[str, ...]) -> int:
        kind, content = description
        if kind == Nodetype.NAME:
            return self.parts(content, above)
        if kind == Nodetype.BASE:
            return 1
        inner, length = content
        parts = self._field(place, inner, above)
        if kind != Nodetype.ARRAY:
            return parts
        if not 0 < length <= MAX_ARRAY:
            raise DatasetError(f"{self._place}: the array {place} has {str(length)[:20]} elements.")
        is_numbers = inner[0] == Nodetype.BASE and inner[1][0] not in ("string", "wstring")
        return 1 if is_numbers else parts * int(length)
