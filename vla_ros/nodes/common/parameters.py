"""Node parameters as one table: a row gives declaration, bounds, validation and docs. Declaring needs rclpy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.schema.json_schema import DIALECT

Value: TypeAlias = bool | int | float | str

_ALWAYS_KNOWN = ("use_sim_time", "start_type_description_service")


@dataclass(frozen=True)
class ParameterRow:
    """One parameter.

    Attributes:
        name: As in the params file.
        default: Also decides the type: bool, int, float or str.
        description: One sentence.
        unit: Of the number, empty where it has none.
        minimum: Smallest value allowed, None for no bound.
        maximum: Largest value allowed, None for no bound.
        choices: Strings allowed; empty allows all.
        read_only: Whether it is fixed once the node runs.
    """

    name: str
    default: Value
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = True

    def check(self, value: Any) -> Value:
        """Return the value if it fits the row.

        Raises:
            ConfigError: It is of another type, out of range or none of the choices.
        """
        kind = type(self.default)
        if type(value) is not kind:
            hint = f"; write {float(value)}" if kind is float and type(value) is int else ""
            raise ConfigError(f"parameter '{self.name}' must be a {kind.__name__}, got {value!r}{hint}.")
        if self.choices and value not in self.choices:
            hint = nearest_name(str(value), self.choices)
            raise ConfigError(f"parameter '{self.name}': '{value}' is not one of {', '.join(self.choices)}.{hint}")
        number = float("nan") if isinstance(value, str) else float(value)
        if self.minimum is not None and number < self.minimum:
            raise ConfigError(f"parameter '{self.name}' must be at least {self.minimum:g}, got {value!r}.")
        if self.maximum is not None and number > self.maximum:
            raise ConfigError(f"parameter '{self.name}' must be at most {self.maximum:g}, got {value!r}.")
        checked: Value = value
        return checked


def declare_parameters(node: Any, rows: Sequence[ParameterRow]) -> dict[str, Value]:
    """Declare the rows on an rclpy node and return the values it was started with.

    A parameter that the node was given and that no row knows is refused: a misspelt option must not be ignored.

    Raises:
        ConfigError: A value does not fit its row, or a name is unknown.
    """
    from rcl_interfaces.msg import ParameterDescriptor

    # rclpy keeps the overrides of this node only, with those of `/**` sections merged in.
    given: Mapping[str, Any] = node._parameter_overrides  # noqa: SLF001 (rclpy has no public way to see undeclared ones)
    known = {row.name for row in rows}
    for name in given:
        if name not in known and name not in _ALWAYS_KNOWN and not name.startswith("qos_overrides."):
            raise ConfigError(f"parameter '{name}' is not one of this node.{nearest_name(name, known)}")
    values: dict[str, Value] = {}
    for row in rows:
        values[row.name] = row.check(given[row.name].value) if row.name in given else row.default
        descriptor = ParameterDescriptor(
            description=row.description, read_only=row.read_only, additional_constraints=_constraint(row)
        )
        node.declare_parameter(row.name, row.default, descriptor)
    return values


def parameter_table(rows: Sequence[ParameterRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| parameter | type | default | | description |", "|---|---|---|---|---|"]
    for row in rows:
        default = f'"{row.default}"' if isinstance(row.default, str) else str(row.default).lower()
        notes = ", ".join(note for note in (row.unit, _constraint(row), "" if row.read_only else "changeable") if note)
        lines.append(f"| `{row.name}` | {type(row.default).__name__} | `{default}` | {notes} | {row.description} |")
    return "\n".join(lines) + "\n"


def parameter_schema(node: str, rows: Sequence[ParameterRow]) -> dict[str, Any]:
    """Return the JSON schema of a params file of a node."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    known: dict[str, Any] = {"use_sim_time": {"type": "boolean"}}
    for row in rows:
        unit = f" [{row.unit}]" if row.unit else ""
        bounds = {"minimum": row.minimum, "maximum": row.maximum, "enum": list(row.choices) or None}
        known[row.name] = {
            "type": names[type(row.default)],
            "description": f"{row.description}{unit}",
            "default": row.default,
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }
    parameters = {"type": "object", "properties": known, "additionalProperties": False}
    section = {"type": "object", "properties": {"ros__parameters": parameters}, "required": ["ros__parameters"]}
    return {"$schema": DIALECT, "title": f"Parameters of {node}", "type": "object", "properties": {node: section}}


def _constraint(row: ParameterRow) -> str:
    bounds = [
        f"≥ {row.minimum:g}" if row.minimum is not None else "",
        f"≤ {row.maximum:g}" if row.maximum is not None else "",
    ]
    return " or ".join(row.choices) if row.choices else " and ".join(bound for bound in bounds if bound)
