"""Joints of a contract: a list of names, or a mapping where the robot's messages call them otherwise."""

from collections.abc import Mapping, Sequence

from vla_ros.schema import Section
from vla_ros.schema.values import shown


def parse_joint_names(
    at: Section, field: str, choices: Sequence[str] | None = None, *, required: bool = True
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of a field ``[name, …]`` or ``{name: name in the messages, …}``, and those in the messages.

    Args:
        at: The section.
        field: Its field.
        choices: What the names must be of, None for any.
        required: Whether the field must be there; no names otherwise.

    Returns:
        The contract's names, and the messages' in the same order, empty where they are the same.

    Raises:
        UserError: The field is missing, or two names stand for one joint.
    """
    given = at.content.get(field)
    if not isinstance(given, Mapping):
        return (at.items(field, str, choices=choices) if required else at.items(field, str, (), choices=choices)), ()
    section = at.section(field)
    names = tuple(section.content)
    if wrong := [name for name in names if not isinstance(name, str) or (choices is not None and name not in choices)]:
        expected = f"one of {', '.join(choices)}" if choices is not None else "a string"
        raise at.fail(field, f"expected each name to be {expected}, got {shown(wrong[0])}")
    ros_names = tuple(section.scalar(name, str) for name in names)
    if len(set(ros_names)) != len(ros_names):
        twice = next(name for name in ros_names if ros_names.count(name) > 1)
        raise at.fail(field, f"gives two names to joint '{twice}' of the messages; keep one")
    return names, ros_names
