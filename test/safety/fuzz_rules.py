"""The rules of the safety filter, written from docs/safety.md and not from its code; they judge commands.

Speeds are judged with a tolerance of 1e-6, places with 1e-9.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from fuzz_plants import conjugate, logarithm, matrix, multiply, quaternion_of

REL, ABS = 1e-6, 1e-9


@dataclass
class Limits:
    """What a scenario's contract limits; inf where nothing is."""

    representation: str
    rotation: str
    in_tool: bool
    lower: np.ndarray
    upper: np.ndarray
    box_low: np.ndarray
    box_high: np.ndarray
    speed: float
    acceleration: float
    turn_speed: float
    turn_acceleration: float
    joint_speed: np.ndarray
    joint_acceleration: np.ndarray
    gripper: int | None
    control_s: float

    @property
    def relative(self) -> bool:
        return self.representation in ("displacement", "twist")

    @property
    def arm(self):
        return [i for i in range(len(self.lower)) if i != self.gripper]


@dataclass
class Judge:
    """Follows the commands that leave the filter and collects what breaks a rule.

    `previous` is what the newest command is judged against: the measured state after a seed, or the last command.
    """

    limits: Limits
    wrong: list[str] = field(default_factory=list)
    fastest: float = 0.0

    def __post_init__(self) -> None:
        self.seed(None, None)

    def seed(self, state, orientation) -> None:
        """The filter was seeded by this state; what is None is not known."""
        self.state, self.orientation = state, orientation
        self.velocity = np.zeros(3 if self.limits.representation != "joint_position" else len(self.limits.lower))
        self.turn, self.effect_s, self.before, self.fresh = np.zeros(3), None, None, True

    def say(self, rule: str, *numbers: float) -> None:
        self.wrong.append(f"{rule} {' '.join(f'{n:.9g}' for n in numbers)}")

    def judge(self, action, effect_s: float, period_s: float, measured) -> None:
        """Judge a command that left; a second one for the same moment is judged against what was before the first."""
        if self.before is not None and effect_s == self.effect_s:
            self.state, self.orientation, self.velocity, self.turn, self.effect_s, self.fresh = self.before
        self.before = (self.state, self.orientation, self.velocity, self.turn, self.effect_s, self.fresh)
        elapsed = self.limits.control_s if self.effect_s is None else min(effect_s - self.effect_s, period_s)
        if not np.isfinite(action).all():
            self.say("not finite")
            return
        self._judge_ranges(action)
        if self.limits.relative:
            self._judge_relative(action, period_s, elapsed, measured)
        elif self.limits.representation == "pose":
            self._judge_pose(action, elapsed)
        else:
            self._judge_joints(action, elapsed)
        self.effect_s, self.fresh = effect_s, False

    def _judge_ranges(self, action) -> None:
        limits = self.limits
        if (action < limits.lower - ABS).any() or (action > limits.upper + ABS).any():
            self.say("range", *action)
        if limits.rotation == "quaternion" and abs(np.linalg.norm(action[3:7]) - 1.0) > 1e-9:
            self.say("quaternion length", np.linalg.norm(action[3:7]))

    def _changed(self, rule: str, velocity, previous, allowed: float) -> None:
        """An axis may slow down at will; what else changes, changes by no more than the acceleration allows."""
        slack = ABS + REL * (allowed + float(np.abs(velocity).max(initial=0.0)))
        braking = (velocity * previous >= -slack * slack) & (np.abs(velocity) <= np.abs(previous) + slack)
        change = np.where(braking, 0.0, velocity - previous)
        if np.linalg.norm(change) > allowed + slack:
            self.say(rule, np.linalg.norm(change), allowed)

    def _judge_relative(self, action, period_s, elapsed, measured) -> None:
        limits = self.limits
        time_s = period_s if limits.representation == "displacement" else 1.0
        velocity = action[:3] / time_s
        place, orientation = measured
        if limits.in_tool and np.isfinite(limits.box_low).any():
            velocity = matrix(orientation) @ velocity
        self._speed("speed", velocity, limits.speed)
        self._changed("acceleration", velocity, self.velocity, limits.acceleration * elapsed)
        end = place + velocity * period_s
        outward = np.maximum(np.where(velocity > 0, end - limits.box_high, limits.box_low - end), 0.0)
        allowed = np.where(np.abs(velocity) * period_s <= 1e-11, np.inf, ABS)
        if (outward * (velocity != 0) > allowed).any():
            self.say("out of the box", *place, *velocity)
        self.velocity = velocity
        self.fastest = max(self.fastest, float(np.linalg.norm(velocity)))
        if limits.rotation != "none":
            part = action[3 : len(action) - (limits.gripper is not None)]
            turn = part if limits.rotation == "rotation_vector" else logarithm(quaternion_of(part, limits.rotation))
            turn = turn / time_s
            self._speed("angular speed", turn, limits.turn_speed)
            self._changed("angular acceleration", turn, self.turn, limits.turn_acceleration * elapsed)
            self.turn = turn

    def _speed(self, rule: str, velocity, maximum: float) -> None:
        if np.linalg.norm(velocity) > maximum * (1 + REL) + ABS:
            self.say(rule, np.linalg.norm(velocity), maximum)

    def _judge_pose(self, action, elapsed) -> None:
        limits, place = self.limits, action[:3]
        if (place < limits.box_low - ABS).any() or (place > limits.box_high + ABS).any():
            self.say("outside the box", *place)
        if self.state is not None and elapsed > 0:
            velocity = (place - self.state) / elapsed
            self._speed("speed", velocity, limits.speed)
            inside = (self.state >= limits.box_low - ABS).all() and (self.state <= limits.box_high + ABS).all()
            if inside or not self.fresh:
                self._changed("acceleration", velocity, self.velocity, limits.acceleration * elapsed)
            self.velocity = velocity
            self.fastest = max(self.fastest, float(np.linalg.norm(velocity)))
        self.state = place.copy()
        if limits.rotation != "none":
            part = action[3 : len(action) - (limits.gripper is not None)]
            q = quaternion_of(part, limits.rotation)
            if self.orientation is not None and elapsed > 0:
                turn = logarithm(multiply(q, conjugate(self.orientation))) / elapsed
                if np.linalg.norm(turn) * elapsed < 3.1:  # at π the shortest way is any
                    self._speed("angular speed", turn, limits.turn_speed)
                    self._changed("angular acceleration", turn, self.turn, limits.turn_acceleration * elapsed)
                self.turn = turn
            self.orientation = q

    def _judge_joints(self, action, elapsed) -> None:
        limits = self.limits
        if self.state is not None and elapsed > 0:
            velocity = (action - self.state) / elapsed
            known = np.isfinite(velocity)
            velocity = np.where(known, velocity, 0.0)
            over = np.abs(velocity) > limits.joint_speed * (1 + REL) + ABS
            if over.any():
                self.say("joint speed", *velocity)
            outside = (self.state < limits.lower - ABS) | (self.state > limits.upper + ABS)
            for i in range(len(action)):
                if not outside[i]:
                    allowed = limits.joint_acceleration[i] * elapsed
                    self._changed("joint acceleration", velocity[i : i + 1], self.velocity[i : i + 1], allowed)
            self.velocity = velocity
        self.state = action.copy()
