"""The result of a run as data and as ``result.json``. Knows no case and measures nothing."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.statistics import extremes, median
from vla_ros.evaluation.machine import hardware, versions

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Target:
    """A bound on the median of a ratio."""

    op: Literal["<=", ">="]
    value: float

    def met(self, value: float) -> bool:
        """Return whether a value keeps the bound."""
        return value <= self.value if self.op == "<=" else value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.op == '<=' else '≥'} {self.value:g}"


@dataclass(frozen=True)
class Ratio:
    """One ratio, measured once per repeat.

    Attributes:
        name: Unique within the case.
        definition: Numerator ÷ denominator, in words.
        values: Per repeat; None where it could not be formed.
        target: The bound that the design sets, None where it sets none.
    """

    name: str
    definition: str
    values: Sequence[float | None]
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the target; None without either."""
        middle = median(self.values)
        return None if self.target is None or middle is None else self.target.met(middle)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        target = None if self.target is None else {"op": self.target.op, "value": self.target.value}
        return {"definition": self.definition, "target": target, "met": self.met, **_summary(self.values)}


@dataclass(frozen=True)
class Figure:
    """An absolute number behind a ratio, of this machine and this run only."""

    name: str
    unit: str
    values: Sequence[float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"unit": self.unit, **_summary(self.values)}


@dataclass(frozen=True)
class CaseResult:
    """What one case found, or why it found nothing.

    Attributes:
        name: The case.
        title: The case in words.
        seconds: How long each arm measured.
        repeats: How often.
        ratios: What it is about.
        figures: Absolute numbers behind them.
        notes: Sentences for the reader.
        load_average: Of the machine, 1 minute, before and after: what else was running.
        error: One sentence when the case could not be measured, else empty.
    """

    name: str
    title: str
    seconds: float
    repeats: int
    ratios: tuple[Ratio, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    load_average: tuple[float, float] = (0.0, 0.0)
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "title": self.title,
            "seconds": self.seconds,
            "repeats": self.repeats,
            "load_average_1_min": {"before": self.load_average[0], "after": self.load_average[1]},
            "ratios": {ratio.name: ratio.to_dict() for ratio in self.ratios},
            "figures": {figure.name: figure.to_dict() for figure in self.figures},
            "notes": list(self.notes),
            "error": self.error,
        }


def result_dict(cases: Sequence[CaseResult], command: str) -> dict[str, Any]:
    """Return the content of ``result.json``."""
    return {
        "format_version": FORMAT_VERSION,
        "command": command,
        "hardware": hardware(),
        "versions": versions(),
        "cases": {case.name: case.to_dict() for case in cases},
    }


def save_result(cases: Sequence[CaseResult], command: str, path: Path) -> None:
    """Write ``result.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result_dict(cases, command), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def load_average() -> float:
    """Return the machine's load average over one minute."""
    return round(os.getloadavg()[0], 2)


_NUMBER = (int, float)
_OPTIONAL = (int, float, type(None))
_SUMMARY: dict[str, Any] = {"median": _OPTIONAL, "min": _OPTIONAL, "max": _OPTIONAL, "values": list}
_RATIO: dict[str, Any] = {"definition": str, "target": (dict, type(None)), "met": (bool, type(None)), **_SUMMARY}
_FIGURE: dict[str, Any] = {"unit": str, **_SUMMARY}
_CASE: dict[str, Any] = {
    "title": str,
    "seconds": _NUMBER,
    "repeats": int,
    "load_average_1_min": {"before": _NUMBER, "after": _NUMBER},
    "ratios": (_RATIO,),
    "figures": (_FIGURE,),
    "notes": list,
    "error": str,
}
SCHEMA: dict[str, Any] = {
    "format_version": int,
    "command": str,
    "hardware": dict,
    "versions": dict,
    "cases": (_CASE,),
}
"""Shape of ``result.json``: a type or types; a mapping of exactly these keys; or, as a tuple of one mapping, a mapping
of any names to such a mapping."""


def schema_problems(content: Any, schema: Any = None, place: str = "result") -> list[str]:
    """Return what differs from `SCHEMA`, as sentences; empty when nothing does."""
    schema = SCHEMA if schema is None else schema
    if isinstance(schema, tuple) and isinstance(schema[0], Mapping):
        if not isinstance(content, Mapping):
            return [f"{place}: expected an object, got {type(content).__name__}"]
        found = [schema_problems(value, schema[0], f"{place}.{name}") for name, value in content.items()]
        return [problem for problems in found for problem in problems]
    if not isinstance(schema, Mapping):
        return [] if isinstance(content, schema) else [f"{place}: {type(content).__name__} does not belong here"]
    if not isinstance(content, Mapping):
        return [f"{place}: expected an object, got {type(content).__name__}"]
    problems = [f"{place}.{name}: missing" for name in schema if name not in content]
    problems += [f"{place}.{name}: unknown" for name in content if name not in schema]
    for name in schema:
        if name in content:
            problems += schema_problems(content[name], schema[name], f"{place}.{name}")
    return problems


def _summary(values: Sequence[float | None]) -> dict[str, Any]:
    low, high = extremes(values)
    middle = median(values)
    return {
        "median": _rounded(middle),
        "min": _rounded(low),
        "max": _rounded(high),
        "values": [_rounded(value) for value in values],
    }


def _rounded(value: float | None) -> float | None:
    """Five significant digits: more would claim a precision that no such measurement has."""
    return None if value is None else float(f"{value:.5g}")
