"""Twists of a mobile base: linear x, maybe y, and angular z, bounded as the spatial twist that they are."""

from dataclasses import replace

import numpy as np

from vla_ros.contract import MeasurementSpec, RobotContract
from vla_ros.safety.bounds import Bounds, bounds_of
from vla_ros.safety.measured import Measured
from vla_ros.safety.motion import Action, Span
from vla_ros.safety.reference import Reference
from vla_ros.safety.relative_motion import RelativeMotion

_SPATIAL = ("x", "y", "z", "roll", "pitch", "yaw")


class PlanarMotion:
    """Bounds planar twists by `RelativeMotion`; every limit means what it means there.

    Args:
        contract: The robot's contract.
        bounds: Its limits; those of the spatial twist are put together anew.
        sources: Where its state is measured.
    """

    def __init__(self, contract: RobotContract, bounds: Bounds, sources: MeasurementSpec) -> None:  # noqa: ARG002
        action = contract.action
        linear = len(action.motion_names) - 1
        self._numbers = [*range(linear), 5, *([6] if action.gripper else [])]  # place of each in the spatial twist
        spatial = _spatial(contract, self._numbers)
        self._size = len(spatial.action.names)
        self._motion = RelativeMotion(spatial, bounds_of(spatial), sources)

    @property
    def measures(self) -> bool:
        """As `Motion.measures`."""
        return self._motion.measures

    def unknown(self, measured: Measured) -> bool:
        """As `Motion.unknown`."""
        return self._motion.unknown(measured)

    def refusal(self, reference: Reference, measured: Measured, span: Span) -> str:
        """As `Motion.refusal`."""
        return self._motion.refusal(reference, measured, span)

    def bounded(
        self, action: Action, reference: Reference, measured: Measured, span: Span, done: list[str]
    ) -> tuple[Action, Reference]:
        """As `Motion.bounded`."""
        spatial = self._expanded(action)
        bounded, after = self._motion.bounded(spatial, reference, measured, span, done)
        return (action if bounded is spatial else bounded[self._numbers]), after

    def at(self, reference: Reference, effect_ns: int) -> Reference:
        """As `Motion.at`."""
        return self._motion.at(reference, effect_ns)

    def after(self, reference: Reference, measured: Measured, span: Span) -> Measured:
        """As `Motion.after`."""
        return self._motion.after(reference, measured, span)

    def hold(self, reference: Reference | None, last: Action | None, measured: Measured) -> Action | None:
        """As `Motion.hold`."""
        held = self._motion.hold(reference, None if last is None else self._expanded(last), measured)
        return None if held is None else held[self._numbers]

    def _expanded(self, action: Action) -> Action:
        spatial = np.zeros(self._size)
        spatial[self._numbers] = action
        return spatial


def _spatial(contract: RobotContract, numbers: list[int]) -> RobotContract:
    """Return the contract of the same robot whose action is a spatial twist."""
    action, limits = contract.action, contract.action.limits
    size = 6 + (action.gripper is not None)
    if limits.lower:
        lower, upper = [-np.inf] * size, [np.inf] * size
        for number, low, high in zip(numbers, limits.lower, limits.upper, strict=True):
            lower[number], upper[number] = low, high
        limits = replace(limits, lower=tuple(lower), upper=tuple(upper))
    spatial = replace(
        action,
        names=(*_SPATIAL, *((action.gripper.name,) if action.gripper else ())),
        units=("m/s",) * 3 + ("rad/s",) * 3 + (("1",) if action.gripper else ()),
        representation="twist",
        rotation="rotation_vector",
        limits=limits,
    )
    return replace(contract, action=spatial)
