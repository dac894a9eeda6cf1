"""Which inputs of a contract a simulated robot does not give, as when a sensor is unplugged."""

from collections.abc import Iterable

from vla_ros.contract import RobotContract
from vla_ros.data_types import ConfigError, nearest_name


def unplugged_keys(names: str | Iterable[str], contract: RobotContract) -> frozenset[str]:
    """Return feature keys, given one by one or in a text with commas between them.

    Raises:
        ConfigError: The contract has no such input; names the nearest.
    """
    given = names.split(",") if isinstance(names, str) else names
    keys = frozenset(name.strip() for name in given if name.strip())
    known = {spec.key for spec in contract.inputs}
    for key in sorted(keys - known):
        raise ConfigError(f"{contract.source}: has no input '{key}' that could be unplugged.{nearest_name(key, known)}")
    return keys
