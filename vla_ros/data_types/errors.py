"""Errors that a user can mend. The command line prints their text and exits; everything else is a bug."""

import difflib
from collections.abc import Iterable
from itertools import islice

_LONGEST_NAME, _MOST_NAMES = 100, 200  # difflib takes quadratic time, and names may come from outside


class UserError(Exception):
    """Something outside the code is wrong: a file, a value, a topic, a missing package.

    The message says where, what was expected, what came and what to do. ``exit_code`` is what the
    command line exits with.
    """

    exit_code = 2


class ContractError(UserError):
    """The robot's contract is malformed, or something does not fit it."""


class DecodeError(UserError):
    """A message does not hold what the contract says it holds."""


class DatasetError(UserError):
    """A dataset or bag cannot be read or does not fit."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not fit the robot."""


class ObservationError(UserError):
    """An observation's keys or shapes differ from those the policy was trained on."""


class ConfigError(UserError):
    """A policy, training or node configuration is malformed or contradicts itself."""


def nearest_name(name: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the allowed name closest to `name`, or an empty string."""
    if len(name) > _LONGEST_NAME:
        return ""
    short = (other for other in allowed if len(other) <= _LONGEST_NAME)
    matches = difflib.get_close_matches(name, list(islice(short, _MOST_NAMES)), n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""
