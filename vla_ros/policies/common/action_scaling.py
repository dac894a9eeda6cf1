"""How actions are normalised under a loss that takes lengths or directions of them. No tensors, no data.

A length is physical, and standing still has none, only where normalising keeps zero in its place and scales the numbers
of the motion alike. Min-max does neither: it gave a robot at rest more weight than one that moves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.data_types import ConfigError
from vla_ros.policies.base import PolicyConfig
from vla_ros.processors import Mode, ProcessorOptions, ProcessorStep

SYMMETRIC: Mode = "symmetric"
KEEPS_LENGTHS = (SYMMETRIC, "identity")
"""Modes under which a length of a motion is one."""

MOTIONS = ("displacement", "twist", "planar_twist")
"""Representations of an action whose zero is standing still."""

Config = TypeVar("Config", bound=PolicyConfig)


def with_motion_of(
    config: PolicyConfig, options: Mapping[str, Any], contract: RobotContract, *, is_relative: bool = False
) -> PolicyConfig:
    """Return a policy's configuration whose loss measures the motion of this robot's action.

    Left to its defaults it measures the linear motion; where the action is no motion, as joint positions, no lengths at
    all.

    Args:
        config: Of the policy.
        options: Those that were given, the others are at their defaults.
        contract: The robot.
        is_relative: Whether a processor makes the action relative to the observation.

    Raises:
        ConfigError: The loss is to measure what is no motion, or numbers of different units.
    """
    if not config.motion_names:
        return config
    if contract.action.representation not in MOTIONS and not is_relative:
        return _without_lengths(config, options, contract.action.representation)
    linear = _linear_motion(contract)
    if not options.get("magnitude_names") and set(linear) < set(config.motion_names):
        config = _replaced(config, magnitude_names=linear)
    unit_of = dict(zip(contract.action.names, contract.action.units, strict=True))
    units = dict.fromkeys(unit_of.get(name, "none") for name in config.motion_names)
    if len(units) > 1:
        raise ConfigError(
            f"the loss takes the length of {', '.join(config.motion_names)}, whose units are {', '.join(units)}; name "
            "numbers of one unit in magnitude_names, or set magnitude_weighting to false."
        )
    return config


def _linear_motion(contract: RobotContract) -> tuple[str, ...]:
    """Return the action numbers that are a position, displacement or linear velocity."""
    action = contract.action
    names = tuple(name for name in action.names if action.gripper is None or name != action.gripper.name)
    return names[:-1] if action.representation == "planar_twist" else names[:3]


def check_relative(steps: Sequence[ProcessorStep], contract: RobotContract) -> bool:
    """Return whether a step makes actions relative to the observation.

    Raises:
        ConfigError: One does, but the robot's action is no pose to go to, or the measured pose is in another frame.
    """
    relative = next((step for step in steps if step.makes_motion), None)
    if relative is None:
        return False
    if contract.action.representation != "pose":
        raise ConfigError(
            f"recipe: processor '{relative.name}' makes poses relative to the observation, but the robot's action is a "
            f"{contract.action.representation}; remove it."
        )
    for spec in contract.inputs:
        if spec.key in relative.reads and spec.frame not in (None, contract.action.frame):
            raise ConfigError(
                f"recipe: processor '{relative.name}' needs '{spec.key}' in the frame of the action, "
                f"'{contract.action.frame}'; the robot measures it in '{spec.frame}'."
            )
    return True


def with_scaling_of(options: ProcessorOptions, config: PolicyConfig, action: FeatureSpec) -> ProcessorOptions:
    """Return the normalisation that a policy's loss and bounds need, where it is left open.

    Args:
        options: As the recipe has them.
        config: Of the policy.
        action: What is normalised; of a policy of several robots, one robot's.

    Raises:
        ConfigError: They are given and contradict the policy.
    """
    names = config.motion_names
    if options.action is None and names and action.key not in options.keys:
        options = replace(options, action=SYMMETRIC)
    mode = options.mode(action)
    if config.bounded_actions and mode not in ("min_max", "quantile", SYMMETRIC):
        raise ConfigError(
            f"normalisation.action '{mode}' leaves actions outside [-1, 1], to which the policy is bound; "
            "use min_max or symmetric, or unbind the policy."
        )
    if not names:
        return options
    if mode not in KEEPS_LENGTHS:
        raise ConfigError(
            f"normalisation.action '{mode}' shifts or stretches {', '.join(names)}, of which the policy's loss takes "
            "the length (magnitude_weighting) or direction (coordinates); use symmetric, or leave the field out."
        )
    if mode != SYMMETRIC:
        return options
    if not options.together:
        options = replace(options, together=names)
    missing = [name for name in names if name not in options.together]
    if missing:
        raise ConfigError(
            f"normalisation.together: {', '.join(options.together)} lacks {', '.join(missing)}, of which the policy's "
            "loss takes the length or direction too; add it, or leave the field out."
        )
    return options


def _without_lengths(config: PolicyConfig, options: Mapping[str, Any], representation: str) -> PolicyConfig:
    """Leave lengths out of a loss that has them by default only."""
    asked = [name for name in ("magnitude_weighting", "magnitude_names") if options.get(name)]
    if getattr(config, "coordinates", "cartesian") != "cartesian":
        asked.append("coordinates")
    if asked or not hasattr(config, "magnitude_weighting"):
        raise ConfigError(
            f"{asked[0] if asked else 'the loss'} takes the length or direction of the action as a motion, but the "
            f"robot's action is a {representation}, whose zero is not standing still; leave it out, or make the action "
            "relative."
        )
    return _replaced(config, magnitude_weighting=False)


def _replaced(config: Config, **changes: Any) -> Config:
    """Replace options that configurations with a motion have, whatever class they are of."""
    return replace(config, **changes)
