"""Sensors have the same feature keys in every contract; one that is called otherwise is refused, with the right key.

Which key a message type has is declared in its row. Only observations are named so, goals are not.
"""

import re

from vla_ros.contract.schema import InputSpec
from vla_ros.contract.types import INPUT_TYPES, SensorKey
from vla_ros.schema import Section

_NAME = re.compile(r"<\w+>")
_DEPTH = "_depth"


def check_sensor_key(at: Section, spec: InputSpec) -> None:
    """Refuse a sensor under a key that is another sensor's, or nobody's.

    Raises:
        UserError: Names the key that it has.
    """
    kind = INPUT_TYPES[spec.type].as_input
    keys = [] if kind is None else [key for key in kind.keys if key.applies(spec)]
    if not keys or not spec.key.startswith("observation.") or any(_fits(spec.key, key) for key in keys):
        return
    patterns = " or ".join(key.pattern for key in keys)
    raise at.fail(
        "key", f"'{spec.key}' is no key of {spec.type}, which is {patterns}; call it {_renamed(spec.key, keys[0])}"
    )


def _fits(key: str, wanted: SensorKey) -> bool:
    """Whether a key has a pattern's form; a name that ends in ``_depth`` is one of depth only."""
    parts = [re.escape(part) for part in _NAME.split(wanted.pattern)]
    found = re.fullmatch(r"(.+)".join(parts), key)
    return found is not None and not any(name.endswith(_DEPTH) for name in found.groups())


def _renamed(key: str, wanted: SensorKey) -> str:
    """Return the key that keeps the name: the last part of the old one."""
    name = key.removeprefix("observation.").rpartition(".")[2]
    return _NAME.sub(name.removesuffix(_DEPTH) or "front", wanted.pattern)
