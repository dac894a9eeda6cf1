"""Twists of a mobile base: linear x, maybe y, and angular z, bounded as the spatial twist that they are."""

from dataclasses import replace

import numpy as np

from vla_ros.contract import MeasurementSpec, RobotContract
from vla_ros.safety.bounds import Bounds, bounds_of
from vla_ros.safety.clearance import allowed_speed, in_base_frame
from vla_ros.safety.measured import Measured
from vla_ros.safety.motion import Action, Span
from vla_ros.safety.reasons import CLEARANCE, SCAN_UNKNOWN
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

    def __init__(self, contract: RobotContract, bounds: Bounds, sources: MeasurementSpec) -> None:
        action = contract.action
        linear = len(action.motion_names) - 1
        self._numbers = [*range(linear), 5, *([6] if action.gripper else [])]  # place of each in the spatial twist
        spatial = _spatial(contract, self._numbers)
        self._size = len(spatial.action.names)
        clearance = action.limits.clearance
        self._clearance = clearance if clearance.key else None
        self._control_s = bounds.control_s
        self._motion = RelativeMotion(spatial, bounds_of(spatial), sources)

    @property
    def measures(self) -> bool:
        """As `Motion.measures`."""
        return self._motion.measures or self._clearance is not None

    def unknown(self, measured: Measured) -> bool:
        """As `Motion.unknown`."""
        return self._motion.unknown(measured)

    def refusal(self, reference: Reference, measured: Measured, span: Span) -> str:
        """As `Motion.refusal`."""
        if self._clearance is not None and measured.points is None:
            return SCAN_UNKNOWN
        return self._motion.refusal(reference, measured, span)

    def bounded(
        self, action: Action, reference: Reference, measured: Measured, span: Span, done: list[str]
    ) -> tuple[Action, Reference]:
        """As `Motion.bounded`."""
        action = self._kept_clear(action, measured, done)
        bounded, after = self._bounded(action, reference, measured, span, done)
        # other bounds may have changed the arc: it is looked at once more, and slower is always within them
        kept = self._kept_clear(bounded, measured, done)
        return (bounded, after) if kept is bounded else self._bounded(kept, reference, measured, span, done)

    def _bounded(
        self, action: Action, reference: Reference, measured: Measured, span: Span, done: list[str]
    ) -> tuple[Action, Reference]:
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

    def _kept_clear(self, action: Action, measured: Measured, done: list[str]) -> Action:
        """Return the action slowed down on its own arc; a base that also drives sideways is slowed down in a line."""
        clearance, points = self._clearance, measured.points
        if clearance is None or points is None:
            return action
        linear = len(self._numbers) - 1 - (self._numbers[-1] == 6)
        places = in_base_frame(points, clearance)
        velocity = action[:linear]
        speed = float(np.sqrt(velocity @ velocity))
        if linear == 1:
            allowed = abs(allowed_speed(places, float(action[0]), float(action[1]), clearance, self._control_s))
        else:  # look along the way it drives
            angle = float(np.arctan2(velocity[1], velocity[0]))
            cosine, sine = np.cos(angle), np.sin(angle)
            allowed = allowed_speed(
                places @ np.array([[cosine, -sine], [sine, cosine]]), speed, 0.0, clearance, self._control_s
            )
        if allowed >= speed:
            return action
        done.append(CLEARANCE)
        slower = action.copy()
        slower[: linear + 1] *= allowed / speed  # the turn too: the same arc
        return slower

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
