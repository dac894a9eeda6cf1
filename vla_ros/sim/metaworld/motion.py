"""What the simulated arm is told by its commands, and the velocity that this means for a step. No ROS, no MuJoCo."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract, SinkSpec
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.sim.command_reader import nanoseconds
from vla_ros.sim.commands import CommandRefusedError, SimCommand

Vector = NDArray[np.float64]
Kind = Literal["displacement", "twist", "pose"]

KINDS: dict[int, Kind] = {0: "displacement", 1: "twist", 2: "pose"}
"""Representation of an EndEffectorAction → kind of motion."""

COMMAND_TYPES = (
    "vla_ros_msgs/msg/EndEffectorAction",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/PoseStamped",
)
"""Messages that the arm obeys, whatever its contract's representation."""


@dataclass(frozen=True)
class ArmOrder:
    """One motion of the end effector.

    Attributes:
        kind: ``displacement`` in m over a period, after which it is over; ``twist`` in m/s, which lasts; or ``pose``, a
            position in m reached within the period.
        linear: float64 [3].
        gripper: −1 (open) … 1 (closed), None to leave it as it is.
    """

    kind: Kind
    linear: Vector
    gripper: float | None


def order_of_action(action: Vector, contract: RobotContract) -> ArmOrder:
    """Return what an action, float64 [A], means; of a pose the position alone: the wrist does not turn."""
    spec, index = contract.action, contract.action.gripper_index
    kind: Any = spec.representation
    return ArmOrder(kind, np.array(action[:3]), None if index is None else gripper_command(action[index], contract))


def gripper_command(value: float, contract: RobotContract) -> float | None:
    """Return a gripper's number of the contract as −1 (open) … 1 (closed); None, to leave it as it is, of NaN."""
    spec = contract.action.gripper
    if spec is None or not math.isfinite(value):
        return None
    closed_share = (value - spec.open) / (spec.closed - spec.open)
    return float(np.clip(2.0 * closed_share - 1.0, -1.0, 1.0))


def read_command(contract: RobotContract, sink: SinkSpec, message: Any) -> SimCommand:
    """Return the command of one of `COMMAND_TYPES`.

    Raises:
        CommandRefusedError: Its frame is another, a number is not finite, or it asks the wrist to turn.
    """
    frame = message.header.frame_id
    if frame != contract.action.frame:
        raise CommandRefusedError("frame", f"frame_id is '{frame}', expected '{contract.action.frame}'")
    stamp_ns = nanoseconds(message.header.stamp)
    period_ns, observed_ns, gripper = NANOSECONDS // contract.fps, None, None
    angular: Vector = np.zeros(3)  # of a PoseStamped: the hand's orientation is fixed, and a pose always carries one
    if sink.type.endswith("/EndEffectorAction"):
        if message.representation not in KINDS:
            raise CommandRefusedError(
                "representation", f"representation {message.representation} is none of {sorted(KINDS.values())}"
            )
        kind = KINDS[message.representation]
        linear, angular = _array(message.linear), _array(message.angular)
        gripper, period_ns = gripper_command(message.gripper, contract), nanoseconds(message.period)
        observed_ns = nanoseconds(message.observation_stamp)
    elif sink.type.endswith("/TwistStamped"):
        kind, angular = "twist", _array(message.twist.angular)
        linear = _array(message.twist.linear) * (sink.linear_scale if sink.units == "unitless" else 1.0)
    else:
        kind, linear = "pose", _array(message.pose.position)
    _check(kind, linear, angular, period_ns)
    return SimCommand(stamp_ns, ArmOrder(kind, linear, gripper), period_ns, observed_ns)


def _check(kind: Kind, linear: Vector, angular: Vector, period_ns: int) -> None:
    if kind == "pose":
        angular = np.zeros(3)  # NaN where a command leaves the orientation as it is
    if not np.isfinite(linear).all() or not np.isfinite(angular).all():
        raise CommandRefusedError("not_finite", f"motion is not finite: linear {linear}, angular {angular}")
    if np.any(angular):
        raise CommandRefusedError(
            "rotation", f"angular motion {angular} is asked for, but this arm's wrist does not turn"
        )
    if kind != "twist" and period_ns <= 0:
        raise CommandRefusedError("period", f"period is {period_ns} ns; a {kind} needs the time it is spread over")


def check_action(contract: RobotContract) -> None:
    """Refuse a robot whose action the arm cannot carry out.

    Raises:
        ConfigError: It is no motion of an end effector.
    """
    action = contract.action
    if action.representation not in KINDS.values():
        raise ConfigError(
            f"{contract.source}: the simulated arm takes a displacement, twist or pose, not a {action.representation}."
        )
    if action.rotation != "none" and action.representation != "pose":
        raise ConfigError(f"{contract.source}: the simulated arm's wrist does not turn; leave out action.rotation.")


class Motion:
    """What the arm does until it is told otherwise.

    A displacement is spread over its period as a constant velocity and is over then, so a command never moves the arm
    farther than it says.

    Args:
        step_ns: Length of a simulation step.
        gripper: At the beginning, −1 … 1.
    """

    def __init__(self, step_ns: int, gripper: float) -> None:
        self._step_ns, self.gripper = step_ns, gripper
        self._order: ArmOrder | None = None
        self._period_ns = self._left_ns = step_ns

    def take(self, order: ArmOrder | None, period_ns: int) -> None:
        """Take up an order; None to stand still, the gripper as it is."""
        self._order, self._period_ns, self._left_ns = order, period_ns, period_ns
        if order is not None and order.gripper is not None:
            self.gripper = order.gripper

    def step(self, set_point: Vector) -> Vector:
        """Return the velocity for the next step, m/s [3].

        Args:
            set_point: Where the end effector has been told to be, m [3]; a pose is reached from there.
        """
        order, left_ns = self._order, self._left_ns
        self._left_ns = left_ns - self._step_ns
        if order is None:
            return np.zeros(3)
        if order.kind == "twist":
            return order.linear
        if order.kind == "displacement":
            share = min(1.0, max(0.0, left_ns / self._step_ns))  # a period need not be a whole number of steps
            return order.linear * (share * NANOSECONDS / self._period_ns)
        return (order.linear - set_point) * (NANOSECONDS / max(left_ns, self._step_ns))


def _array(message: Any) -> Vector:
    return np.array((message.x, message.y, message.z), np.float64)
