"""The numbers that the filter holds a robot to, put together from a contract: of several limits, the tightest."""

from dataclasses import dataclass

import numpy as np

from vla_ros.contract import MeasurementSpec, RobotContract, measured_sources
from vla_ros.contract.measurement import RELATIVE
from vla_ros.data_types import ContractError
from vla_ros.safety.limits import Vector

_SLACK = 1.0 + 1e-9
"""Sums of steps that reach a limit exactly are longer by rounding."""
FOLLOWING_S = 0.5
"""A robot may be behind its commands by what its speed limit covers in this time, s, unless the contract says less."""


@dataclass(frozen=True)
class Bounds:
    """Limits in SI units; infinite where there is none.

    Attributes:
        lower, upper: float64 [A], range of every action number; of a joint, the tightest of its ranges.
        has_ranges: Whether a number has one.
        box_low, box_high: float64 [3], the workspace; of a pose also its own numbers' ranges.
        has_workspace: Whether the contract sets a workspace.
        speed, acceleration: Of the end effector.
        turn_speed, turn_acceleration: Of the end effector.
        joint_speed, joint_acceleration: float64 [A].
        following: float64 [A] for joints, else [1]: how far the reference may be from the measurement.
        turn_following: The same of the orientation, rad.
        faults_when_behind: Whether exceeding `following` is a fault of a relative action too.
        control_s: Time from one command to the next, s.
    """

    lower: Vector
    upper: Vector
    has_ranges: bool
    box_low: Vector
    box_high: Vector
    has_workspace: bool
    speed: float
    acceleration: float
    turn_speed: float
    turn_acceleration: float
    joint_speed: Vector
    joint_acceleration: Vector
    following: Vector
    turn_following: float
    faults_when_behind: bool
    control_s: float


def bounds_of(contract: RobotContract) -> Bounds:
    """Put a contract's limits together.

    Raises:
        ContractError: The ranges of a number leave nothing; see also `check_bounds`.
    """
    action, limits = contract.action, contract.action.limits
    joints = action.representation == "joint_position"
    lower, upper = _ranges(contract)
    box_low = np.array(limits.workspace_min or [-np.inf] * 3)
    box_high = np.array(limits.workspace_max or [np.inf] * 3)
    if action.representation == "pose":
        box_low, box_high = np.maximum(box_low, lower[:3]), np.minimum(box_high, upper[:3])
        for name, low, high in zip(action.names, box_low, box_high, strict=False):
            if low >= high:
                raise ContractError(
                    f"{contract.source}: action.limits leave '{name}' nothing: its range and the workspace share no "
                    f"value ({low:g} to {high:g})."
                )
    joint_speed = _of_joints(contract, "max_velocity", limits.max_joint_speed, limits.max_angular_speed)
    speed, turn_speed = _or_inf(limits.max_speed), _or_inf(limits.max_angular_speed)
    explicit = limits.max_following_error
    following = FOLLOWING_S * joint_speed if joints else np.array([FOLLOWING_S * speed])
    if explicit is not None:
        following = np.full_like(following, explicit)
    following = following * _SLACK
    if joints and action.gripper_index is not None:  # a gripper that holds something never reaches its command
        following[action.gripper_index] = np.inf
    return Bounds(
        lower=lower,
        upper=upper,
        has_ranges=bool(np.isfinite(lower).any() or np.isfinite(upper).any()),
        box_low=box_low,
        box_high=box_high,
        has_workspace=bool(limits.workspace_min),
        speed=speed,
        acceleration=_or_inf(limits.max_acceleration),
        turn_speed=turn_speed,
        turn_acceleration=_or_inf(limits.max_angular_acceleration),
        joint_speed=joint_speed,
        joint_acceleration=_of_joints(
            contract, "max_acceleration", limits.max_joint_acceleration, limits.max_acceleration
        ),
        following=following,
        turn_following=(limits.max_angular_following_error or FOLLOWING_S * turn_speed) * _SLACK,
        faults_when_behind=explicit is not None,
        control_s=1.0 / contract.control_rate_hz,
    )


def check_bounds(contract: RobotContract) -> MeasurementSpec:
    """Refuse what the filter could not hold, and return where the state is measured.

    Raises:
        ContractError: A motion number's range excludes zero, or a box stands around motions in a frame whose
            orientation nobody measures.
    """
    action, limits = contract.action, contract.action.limits
    sources = measured_sources(contract)
    if action.representation in RELATIVE:
        for index, name in enumerate(action.motion_names[:3]):
            if limits.lower and not limits.lower[index] <= 0.0 <= limits.upper[index]:
                raise ContractError(
                    f"{contract.source}: action.limits of '{name}' are {limits.lower[index]:g} to "
                    f"{limits.upper[index]:g} and exclude zero; the robot could never be told to stand still."
                )
        if limits.workspace_min and action.frame == contract.tool_frame and sources.orientation is None:
            raise ContractError(
                f"{contract.source}: action.frame '{action.frame}' is the tool's, and its orientation is not measured; "
                "the workspace could not be held. Name it in action.measured.orientation."
            )
    elif action.representation == "pose" and action.frame == contract.tool_frame and limits.workspace_min:
        raise ContractError(
            f"{contract.source}: action.frame '{action.frame}' is the tool's; a pose in it cannot be held to a "
            f"workspace. Give poses in '{contract.base_frame}'."
        )
    return sources


def _ranges(contract: RobotContract) -> tuple[Vector, Vector]:
    names, limits = contract.action.names, contract.action.limits
    lower = np.array(limits.lower or [-np.inf] * len(names))
    upper = np.array(limits.upper or [np.inf] * len(names))
    if contract.action.rotation in ("quaternion", "rot6d"):  # its numbers mean nothing one by one
        part = contract.action.rotation_slice
        lower[part], upper[part] = -np.inf, np.inf
    for limit in limits.joint_limits:
        index = names.index(limit.name)
        if limit.min_position is not None:
            lower[index] = max(lower[index], limit.min_position)
        if limit.max_position is not None:
            upper[index] = min(upper[index], limit.max_position)
        if lower[index] >= upper[index]:
            raise ContractError(
                f"{contract.source}: action.limits leave joint '{limit.name}' no range: lower, upper and its joint "
                f"limits share no value ({lower[index]:g} to {upper[index]:g})."
            )
    return lower, upper


def _of_joints(contract: RobotContract, name: str, own: tuple[float, ...], common: float | None) -> Vector:
    """Return the tightest limit of every number; the one for all joints does not bound a gripper."""
    action = contract.action
    values = np.full(len(action.names), np.inf)
    if action.representation != "joint_position":
        return values
    if common is not None:
        values[:] = common
        if action.gripper_index is not None:
            values[action.gripper_index] = np.inf
    if own:
        values = np.minimum(values, own)
    for limit in action.limits.joint_limits:
        value = getattr(limit, name)
        if value is not None:
            index = action.names.index(limit.name)
            values[index] = min(values[index], value)
    return values


def _or_inf(value: float | None) -> float:
    return np.inf if value is None else value
