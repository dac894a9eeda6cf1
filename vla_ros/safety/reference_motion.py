"""What poses and joint positions share: the filter moves a reference towards the command, and tells the robot that."""

from typing import TypeVar

from vla_ros.contract import RobotContract
from vla_ros.safety.bounds import Bounds
from vla_ros.safety.limits import Vector
from vla_ros.safety.motion import Span
from vla_ros.safety.reference import Reference

TINY = 1e-9
"""Rounding errors, of an angle or in proportion."""

Speed = TypeVar("Speed", float, Vector)


class ReferenceMotion:
    """Base of the motions whose numbers are targets.

    Args:
        contract: The robot's contract.
        bounds: Its limits.
    """

    def __init__(self, contract: RobotContract, bounds: Bounds) -> None:
        self._spec, self._bounds = contract.action, bounds

    def at(self, reference: Reference, effect_ns: int) -> Reference:  # noqa: ARG002
        """As `Motion.at`: the robot stays where it was told to be."""
        return reference

    def _reach(self, speed: Speed, span: Span) -> Speed:
        """Return how far a command may lead at a speed; one at the same time as the last counts a control period."""
        return speed * (span.elapsed_s or self._bounds.control_s) * (1.0 + TINY)
