"""Simulated robots that the property test drives: exact, one tick late, or lagging by a time constant. numpy only.

Rotations are unit quaternions x, y, z, w; written anew here, as the rules are, so that a mistake in the package's own
formulas does not hide itself.
"""

from __future__ import annotations

import math

import numpy as np


def multiply(a, b):
    ax, ay, az, aw = (float(x) for x in a)
    bx, by, bz, bw = (float(x) for x in b)
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def conjugate(q):
    return np.array([-q[0], -q[1], -q[2], q[3]])


def exponential(turn):
    """Quaternion of a rotation vector."""
    angle = math.sqrt(float(turn @ turn))
    if angle < 1e-12:
        return np.array([*(0.5 * turn), 1.0])
    return np.array([*(turn * (math.sin(angle / 2) / angle)), math.cos(angle / 2)])


def logarithm(q):
    """Rotation vector of a quaternion, the angle at most π."""
    if q[3] < 0:
        q = -q
    sine = math.sqrt(float(q[:3] @ q[:3]))
    return q[:3] * (2.0 if sine < 1e-12 else 2.0 * math.atan2(sine, q[3]) / sine)


def matrix(q):
    x, y, z, w = (float(v) for v in q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(values, form):
    """Unit quaternion of an action's rotation numbers."""
    values = np.asarray(values, float)
    if form == "rotation_vector":
        return exponential(values)
    if form == "quaternion":
        return values / math.sqrt(float(values @ values))
    x = values[:3] / np.linalg.norm(values[:3])
    y = values[3:] - (x @ values[3:]) * x
    y /= np.linalg.norm(y)
    columns = np.stack([x, y, np.cross(x, y)], axis=1)
    # the eigenvector that belongs to the eigenvalue 1 of K (Bar-Itzhack 2000)
    m = columns
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    return np.linalg.eigh(k)[1][:, -1]


class Plant:
    """A robot that moves a set point by what it is told, and itself after it.

    Args:
        start: float [N], set point and state at first; the end effector's position, or joints.
        orientation: Of the end effector.
        lag_s: Time constant with which the state follows the set point; 0 follows at once.
        late: Whether it is measured one tick late.
    """

    def __init__(self, start, orientation, lag_s: float, *, late: bool) -> None:
        self.lag_s, self.late = lag_s, late
        self.place(start, orientation)

    def place(self, state, orientation) -> None:
        """Put it somewhere, at rest."""
        self.set_point = self.state = np.array(state, float)
        self.set_turn = self.orientation = np.array(orientation, float)
        self.velocity, self.turn, self.left_s = np.zeros(len(self.state)), np.zeros(3), 0.0
        self.in_tool = False
        self._before = (self.state, self.orientation)

    @property
    def measured(self):
        """State and orientation as they are measured now."""
        return self._before if self.late else (self.state, self.orientation)

    def move(self, velocity, turn, hold_s: float, *, in_tool: bool) -> None:
        """Take a velocity and a turning speed for `hold_s`."""
        self.velocity, self.turn, self.left_s, self.in_tool = velocity, turn, hold_s, in_tool

    def go(self, state, orientation) -> None:
        """Take a set point."""
        self.set_point = np.array(state, float)
        if orientation is not None:
            self.set_turn = orientation

    def halt(self) -> None:
        """Take a velocity of zero."""
        self.left_s = 0.0

    def advance(self, duration_s: float) -> None:
        """Let time pass."""
        self._before = (self.state, self.orientation)
        moving = min(duration_s, self.left_s)
        if moving > 0.0:
            velocity = matrix(self.orientation) @ self.velocity if self.in_tool else self.velocity
            self._follow(velocity, moving)
            step = exponential(self.turn * moving)
            self.set_turn = multiply(self.set_turn, step) if self.in_tool else multiply(step, self.set_turn)
            self.left_s -= moving
        self._follow(np.zeros(len(self.state)), duration_s - moving)
        share = 1.0 if self.lag_s == 0.0 else 1.0 - math.exp(-duration_s / self.lag_s)
        gap = logarithm(multiply(self.set_turn, conjugate(self.orientation)))
        self.orientation = multiply(exponential(gap * share), self.orientation)
        self.orientation /= np.linalg.norm(self.orientation)
        self.set_turn = self.set_turn / np.linalg.norm(self.set_turn)

    def _follow(self, velocity, duration_s: float) -> None:
        """Move the set point along a ramp and the state after it: the exact solution of a first-order lag."""
        start = self.set_point
        self.set_point = start + velocity * duration_s
        if self.lag_s == 0.0:
            self.state = self.set_point
            return
        behind = (self.state - start + velocity * self.lag_s) * math.exp(-duration_s / self.lag_s)
        self.state = self.set_point - velocity * self.lag_s + behind
