"""The nouns of the package: frames, observations, action chunks, commands, errors. numpy only."""

from vla_ros.data_types.errors import (
    CheckpointError,
    ConfigError,
    ContractError,
    DatasetError,
    DecodeError,
    ObservationError,
    UserError,
    nearest_name,
)
from vla_ros.data_types.values import (
    NANOSECONDS,
    ActionChunk,
    Array,
    Command,
    Frame,
    Observation,
    first_tick_at_or_after,
    tick_ns,
)

__all__ = [
    "NANOSECONDS",
    "ActionChunk",
    "Array",
    "CheckpointError",
    "Command",
    "ConfigError",
    "ContractError",
    "DatasetError",
    "DecodeError",
    "Frame",
    "Observation",
    "ObservationError",
    "UserError",
    "first_tick_at_or_after",
    "nearest_name",
    "tick_ns",
]
