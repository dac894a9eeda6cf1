"""Judges one value: pydantic decides; what it says becomes a sentence of what was expected and what came."""

import reprlib
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import Field, Strict, TypeAdapter, ValidationError

from vla_ros.data_types import nearest_name
from vla_ros.data_types.foreign_text import plain
from vla_ros.schema.about import About

LONGEST_VALUE = 200
"""Characters of a value that a sentence repeats."""

NAMES = {str: "string", int: "integer", float: "number", bool: "bool"}
"""Types of values in the words of the docs."""


_BOUND_WORDS = {
    "greater_than_equal": "at least",
    "greater_than": "above",
    "less_than_equal": "at most",
    "less_than": "below",
}


class _Repr(reprlib.Repr):
    """`repr` that takes no more time than what it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 4, LONGEST_VALUE, LONGEST_VALUE, LONGEST_VALUE
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 12

    def repr_int(self, x: int, level: int) -> str:
        """Return a number's digits, unless there are too many to count."""
        return super().repr_int(x, level) if x.bit_length() < 4000 else f"a whole number of {x.bit_length()} bits"


def shown(value: object) -> str:
    """Return how a sentence repeats a value: on one line, cut."""
    return plain(_Repr().repr(value), LONGEST_VALUE)


@cache
def adapter(kind: Hashable, about: About) -> "TypeAdapter[Any]":
    """Return what judges one value of a kind (bool, int, float or str) within the bounds declared about it."""
    bounds = {"ge": about.at_least, "gt": about.above, "le": about.at_most, "lt": about.below}
    extra: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    if kind is float:
        extra["allow_inf_nan"] = False
    if about.pattern:
        extra["pattern"] = about.pattern
    declared: Any = Annotated[kind, Strict(), Field(**extra)]
    return TypeAdapter(declared)


def judge(value: object, kind: type, about: About, choices: Sequence[object] | None = None) -> Any:
    """Return the value as its kind; an int is fine for a float, nothing else is converted.

    Raises:
        ValueError: With the sentence that follows the field's name.
    """
    try:
        checked = adapter(kind, about).validate_python(value)
    except ValidationError as reason:
        raise ValueError(_sentence(reason.errors(include_url=False)[0], value, kind, about)) from None
    except OverflowError:
        raise ValueError("expected a finite number, got a whole number that is too large") from None
    if choices is not None and checked not in choices:
        text = plain(checked, LONGEST_VALUE)
        hint = nearest_name(str(checked), map(str, choices))
        raise ValueError(f"'{text}' is not one of {', '.join(map(str, choices))}.{hint}")
    return checked


def _sentence(problem: Any, value: object, kind: type, about: About) -> str:
    said: Callable[[], str] | None = {
        "finite_number": lambda: f"expected a finite number, got {shown(value)}",
        "string_pattern_mismatch": lambda: about.mismatch.format(plain(value, LONGEST_VALUE)),
    }.get(problem["type"])
    if said is not None:
        return said()
    if problem["type"] in _BOUND_WORDS:
        number = float(value) if kind is float else value  # type: ignore[arg-type]  # pydantic took it for a number
        note = f"; {about.note}" if about.note else ""
        word = _BOUND_WORDS[problem["type"]]
        return f"must be {word} {next(iter(problem['ctx'].values())):g}, got {shown(number)}{note}"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return "expected a finite number, got a whole number that is too large"
    return f"expected {kind.__name__}, got {shown(value)}{_yaml_hint(kind, value)}"


def _yaml_hint(kind: type, value: object) -> str:
    """Explain the two places where YAML 1.1 reads something else than was meant."""
    if kind is str and isinstance(value, bool | int | float):
        return "; write it in quotes"
    if kind is float and isinstance(value, str) and "e" in value.lower() and "." not in value:
        return "; write the number with a point, like 1.0e-3"
    return ""
