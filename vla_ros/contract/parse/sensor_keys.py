"""Sensors have the same feature keys in every contract, so that policies and tools find them.

Which key a message type has is declared in its row. A key of the robot's own is taken as it is; one that is another
sensor's is refused, with the right one. Only observations are named so, goals are not.
"""

import re

from vla_ros.contract.schema import InputSpec
from vla_ros.contract.types import INPUT_TYPES, SensorKey
from vla_ros.schema import Section

_NAME = re.compile(r"<\w+>")
_DEPTH = "_depth"


def check_sensor_key(at: Section, spec: InputSpec) -> None:
    """Refuse a sensor under a key that is another sensor's.

    Raises:
        UserError: Names the key that it has.
    """
    own = _keys(spec.type, spec)
    if not own or not spec.key.startswith("observation.") or any(_fits(spec.key, key) for key in own):
        return
    others = {key.pattern for name in INPUT_TYPES for key in _keys(name, None)} - {key.pattern for key in own}
    if not any(_fits(spec.key, SensorKey(pattern)) for pattern in others):
        return
    patterns = " or ".join(key.pattern for key in own)
    raise at.fail(
        "key", f"'{spec.key}' is no key of {spec.type}, which is {patterns}; call it {_renamed(spec.key, own[0])}"
    )


def _keys(type_name: str, spec: InputSpec | None) -> list[SensorKey]:
    """Return the keys of a type's inputs, of one input those that apply to it."""
    kind = INPUT_TYPES[type_name].as_input
    return [] if kind is None else [key for key in kind.keys if spec is None or key.applies(spec)]


def _fits(key: str, wanted: SensorKey) -> bool:
    """Whether a key has a pattern's form; a name that ends in ``_depth`` is one of depth only."""
    parts = [re.escape(part) for part in _NAME.split(wanted.pattern)]
    found = re.fullmatch(r"(.+)".join(parts), key)
    return found is not None and not any(name.endswith(_DEPTH) for name in found.groups())


def _renamed(key: str, wanted: SensorKey) -> str:
    """Return the key that keeps the name: the last part of the old one."""
    name = key.removeprefix("observation.").rpartition(".")[2]
    return _NAME.sub(name.removesuffix(_DEPTH) or "front", wanted.pattern)
