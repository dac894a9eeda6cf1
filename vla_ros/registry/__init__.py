"""Names → things: policies, encoders, objectives, simulators and whatever else a configuration may name.

One mechanism for all kinds. A thing is built in, provided by another package's entry points (group ``vla_ros.<kind>``),
or registered in this process as in a dictionary: ``ENCODERS["my_encoder"] = MyEncoder``. Listing imports nothing; a
thing is imported when it is first asked for, so an absent optional package hurts only its users. No torch, no ROS.
"""

from vla_ros.registry.installed import broken_packages
from vla_ros.registry.kinds import (
    ACTION_HEAD_REGISTRY,
    BACKENDS,
    ENCODER_REGISTRY,
    ENCODERS,
    FILM_TRUNKS,
    HEADS,
    KINDS,
    MESSAGES,
    OBJECTIVES,
    POLICIES,
    POOLINGS,
    PROCESSORS,
    PROJECTORS,
    SENSORS,
    SIMULATORS,
    TEXT_MODELS,
    registry_of,
)
from vla_ros.registry.owners import OWN, Owner
from vla_ros.registry.parts import (
    EncoderName,
    FilmTrunkName,
    HeadName,
    ObjectiveName,
    PartName,
    PoolingName,
    TextModelName,
    check_names,
    check_provided,
    foreign_parts,
)
from vla_ros.registry.registry import BrokenPartError, Entry, Registry, TakenNameError, UnknownNameError

__all__ = [
    "ACTION_HEAD_REGISTRY",
    "BACKENDS",
    "ENCODERS",
    "ENCODER_REGISTRY",
    "FILM_TRUNKS",
    "HEADS",
    "KINDS",
    "MESSAGES",
    "OBJECTIVES",
    "OWN",
    "POLICIES",
    "POOLINGS",
    "PROCESSORS",
    "PROJECTORS",
    "SENSORS",
    "SIMULATORS",
    "TEXT_MODELS",
    "BrokenPartError",
    "EncoderName",
    "Entry",
    "FilmTrunkName",
    "HeadName",
    "ObjectiveName",
    "Owner",
    "PartName",
    "PoolingName",
    "Registry",
    "TakenNameError",
    "TextModelName",
    "UnknownNameError",
    "broken_packages",
    "check_names",
    "check_provided",
    "foreign_parts",
    "registry_of",
]
