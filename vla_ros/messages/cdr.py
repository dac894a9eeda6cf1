"""Whether the bytes of a CDR message can hold what its lengths declare, found out before anything is allocated.

A sequence in CDR begins with its length, which the sender chooses. rclpy's deserialiser makes room for as many elements
as there are bytes left: 20 MB of zeros, declared as joint names, cost a gigabyte before they are refused. And rclpy and
rosbags do not refuse the same bytes. `check` walks a message by its type's layout before either of them sees it: little
is allocated, and a live node refuses what a converter refuses. It reads the lengths and the strings, never the numbers.

Layouts come from rosbags' definitions (`message_types`) or from rclpy's classes (`rclpy_deserialize`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from struct import Struct as Packed

from vla_ros.data_types import DecodeError

PREFIX = 4
"""CDR begins with two bytes of representation and two of options."""

_COUNT = {b"\0\0": Packed(">I"), b"\0\1": Packed("<I")}
"""Representation → how lengths are read. ROS 2 uses plain CDR only, big and little endian."""

_PADDING = 3
"""Middleware may fill the last word of a message, and say in the last bits of the options with how many bytes."""


@dataclass(frozen=True)
class Number:
    """A number or boolean of `size` bytes, aligned to its size."""

    size: int


@dataclass(frozen=True)
class Text:
    """A string: length with terminator, UTF-8 bytes, one zero byte."""


@dataclass(frozen=True)
class Array:
    """`count` elements, without a length."""

    element: "Kind"
    count: int


@dataclass(frozen=True)
class Sequence:
    """A length and as many elements."""

    element: "Kind"


@dataclass(frozen=True)
class Message:
    """Fields by name, in order."""

    fields: tuple[tuple[str, "Kind"], ...]


Kind = Number | Text | Array | Sequence | Message

Count = Callable[[memoryview, int], int]
"""(message behind its prefix, position) → the length that stands there."""


class Layout:
    """What `check` needs to know of a message type.

    Args:
        message: The type's fields.
    """

    def __init__(self, message: Message) -> None:
        self._steps = _merged(_steps(message, ""))

    def end(self, body: memoryview, count: Count) -> int:
        """Return where a message ends that begins with the body.

        Raises:
            ValueError: It does not fit; says which field.
        """
        position = 0
        for step in self._steps:
            position = step.end(body, position, count)
        return position


def check(raw: bytes | memoryview, layout: Layout, type_name: str) -> None:
    """Refuse bytes that do not hold a message of a type.

    Raises:
        DecodeError: Says which field does not fit.
    """
    try:
        count = _count(raw)
        body = memoryview(raw)[PREFIX : len(raw) - (raw[3] & _PADDING)]
        rest = len(raw) - PREFIX - layout.end(body, count)
    except ValueError as reason:
        raise damaged(raw, type_name, str(reason)) from reason
    if rest > _PADDING:
        raise damaged(raw, type_name, f"{rest} bytes follow its last field")


def damaged(raw: bytes | memoryview, type_name: str, what: str = "") -> DecodeError:
    """Return the error for bytes that do not hold a message of a type."""
    because = f": {what}" if what else ""
    return DecodeError(f"{len(raw)} bytes do not hold a {type_name}{because}; they are damaged or of another type")


def _count(raw: bytes | memoryview) -> Count:
    packed = _COUNT.get(bytes(raw[:2])) if len(raw) >= PREFIX else None
    if packed is None:
        raise ValueError("they do not begin as plain CDR")
    unpack = packed.unpack_from

    def count(body: memoryview, position: int) -> int:
        return int(unpack(body, position)[0])

    return count


@dataclass(frozen=True)
class _Fixed:
    """Numbers one after the other, whose places depend only on where the first stands."""

    name: str
    alignment: int
    size: int

    @property
    def least(self) -> int:
        return self.size

    def end(self, body: memoryview, position: int, count: Count) -> int:  # noqa: ARG002 - one signature for all steps
        end = _aligned(position, self.alignment) + self.size
        if end > len(body):
            raise ValueError(f"they end before '{self.name}'")
        return end


@dataclass(frozen=True)
class _Text:
    name: str
    least: int = 5

    def end(self, body: memoryview, position: int, count: Count) -> int:
        begin, length = _length(self.name, body, position, count)
        if not 0 < length <= len(body) - begin:
            raise ValueError(f"'{self.name}' declares {length} characters where {len(body) - begin} bytes are left")
        text = bytes(body[begin : begin + length])
        if text.find(0) != length - 1:
            raise ValueError(f"'{self.name}' is not one string that ends with a zero byte")
        try:
            text.decode()
        except UnicodeDecodeError as reason:
            raise ValueError(f"'{self.name}' is not UTF-8") from reason
        return begin + length


@dataclass(frozen=True)
class _Numbers:
    """A sequence of numbers of `size` bytes."""

    name: str
    size: int
    least: int = 4

    def end(self, body: memoryview, position: int, count: Count) -> int:
        begin, length = _length(self.name, body, position, count)
        if length:  # an empty sequence is not followed by the padding that its elements would need
            begin = _aligned(begin, self.size)
        if length * self.size > len(body) - begin:
            raise ValueError(
                f"'{self.name}' declares {length} numbers of {self.size} bytes where {len(body) - begin} are left"
            )
        return begin + length * self.size


@dataclass(frozen=True)
class _Elements:
    """A sequence of anything else."""

    name: str
    steps: tuple["_Step", ...]
    least: int = 4

    def end(self, body: memoryview, position: int, count: Count) -> int:
        begin, length = _length(self.name, body, position, count)
        needed = length * sum(step.least for step in self.steps)
        if needed > len(body) - begin:
            raise ValueError(f"'{self.name}' declares {length} elements where {len(body) - begin} bytes are left")
        for _ in range(length):
            for step in self.steps:
                begin = step.end(body, begin, count)
        return begin


_Step = _Fixed | _Text | _Numbers | _Elements


def _aligned(position: int, alignment: int) -> int:
    return (position + alignment - 1) & -alignment


def _length(name: str, body: memoryview, position: int, count: Count) -> tuple[int, int]:
    """Return where a sequence's elements begin, and how many it declares."""
    begin = _aligned(position, 4)
    if begin + 4 > len(body):
        raise ValueError(f"they end before the length of '{name}'")
    return begin + 4, count(body, begin)


def _steps(kind: Kind, name: str) -> list[_Step]:
    if isinstance(kind, Number):
        return [_Fixed(name, kind.size, kind.size)]
    if isinstance(kind, Text):
        return [_Text(name)]
    if isinstance(kind, Array):
        return _steps(kind.element, name) * kind.count
    if isinstance(kind, Message):
        return [step for field, inner in kind.fields for step in _steps(inner, f"{name}.{field}" if name else field)]
    if isinstance(kind.element, Number):
        return [_Numbers(name, kind.element.size)]
    return [_Elements(name, _merged(_steps(kind.element, name)))]


def _merged(steps: Iterable[_Step]) -> tuple[_Step, ...]:
    """Join neighbouring numbers: covariances and the like are then one step."""
    merged: list[_Step] = []
    for step in steps:
        last = merged[-1] if merged else None
        # The places of a run follow from its beginning only up to the alignment of the beginning
        if isinstance(step, _Fixed) and isinstance(last, _Fixed) and step.alignment <= last.alignment:
            merged[-1] = _Fixed(last.name, last.alignment, _aligned(last.size, step.alignment) + step.size)
        else:
            merged.append(step)
    return tuple(merged)
