"""Which command the simulated robot obeys at a moment, and when it halts for want of one.

Owns the rules of a servo-like receiver: refusals, the moment a command takes effect, how long it holds, the
halt. Time is an argument, in ns of the simulation. No ROS, no MuJoCo.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS

MAX_LEAD_NS = NANOSECONDS
"""A command that takes effect later than this from now is a mistake of clocks, not a plan."""


@dataclass(frozen=True)
class MotionCommand:
    """One command as it arrived.

    Attributes:
        kind: ``displacement`` in m over `period_ns`, ``twist`` in m/s, or ``pose``, a position in m reached
            within `period_ns`.
        frame: frame_id of the motion.
        stamp_ns: The moment it takes effect.
        linear: float64 [3].
        angular: float64 [3], zero: this arm's wrist does not turn. Not looked at for a pose.
        gripper: −1 (open) … 1 (closed), None to leave it as it is.
        period_ns: See `kind`; a twist does not use it.
        observation_stamp_ns: Observation it answers; None where the message cannot carry one.
    """

    kind: Literal["displacement", "twist", "pose"]
    frame: str
    stamp_ns: int
    linear: NDArray[np.float64]
    angular: NDArray[np.float64]
    gripper: float | None
    period_ns: int
    observation_stamp_ns: int | None = None


@dataclass(frozen=True)
class Motion:
    """What the arm does during one simulation step.

    Attributes:
        velocity: m/s [3].
        gripper: −1 … 1.
        halted: No fresh command.
    """

    velocity: NDArray[np.float64]
    gripper: float
    halted: bool


class CommandBuffer:
    """Takes commands from any thread; says what to do from the simulation's.

    A displacement is spread over its period as a constant velocity and is over then, so a command never moves
    the arm farther than it says. A twist holds until the next command. Either ends when no command fresher
    than the timeout is there: the arm halts and the gripper keeps its last command.

    Args:
        frame: The only accepted frame_id.
        timeout_ns: Age at which a command is stale: not accepted any more, and no longer obeyed.
        step_ns: Length of a simulation step.
    """

    def __init__(self, frame: str, timeout_ns: int, step_ns: int) -> None:
        self._frame, self._timeout_ns, self._step_ns = frame, timeout_ns, step_ns
        self.changed = threading.Condition()
        """Notified on every accepted command; guards everything inside."""
        self.refused: Counter[str] = Counter()
        """Refused commands by kind of reason."""
        self.accepted = 0
        self.clear(0)

    def clear(self, not_before_ns: int) -> None:
        """Begin an episode: forget all commands, open the gripper, refuse what was meant for the time before."""
        with self.changed:
            self._not_before_ns = not_before_ns
            self._pending: list[MotionCommand] = []
            self._active: MotionCommand | None = None
            self._begun_ns = 0
            self._gripper = -1.0

    def drop(self) -> None:
        """Forget all commands but the gripper's: the arm is halted until a new one comes."""
        with self.changed:
            self._pending.clear()
            self._active = None

    def offer(self, command: MotionCommand, now_ns: int) -> str | None:
        """Accept a command, or return in one sentence why not."""
        with self.changed:
            refusal = self._refusal(command, now_ns)
            if refusal is not None:
                self.refused[refusal[0]] += 1
                return refusal[1]
            self.accepted += 1
            self._pending.append(command)
            self.changed.notify_all()
            return None

    def _refusal(self, command: MotionCommand, now_ns: int) -> tuple[str, str] | None:
        malformed = self._malformation(command)
        if malformed is not None:
            return malformed
        stamp = f"stamp {command.stamp_ns / NANOSECONDS:.3f} s"
        age_ns = now_ns - command.stamp_ns
        if age_ns > self._timeout_ns:
            return "stale", (
                f"{stamp} is {age_ns / NANOSECONDS:.3f} s old, limit {self._timeout_ns / NANOSECONDS:.3f} s; "
                "stamps are simulated time (use_sim_time)"
            )
        if -age_ns > MAX_LEAD_NS:
            return "future", (
                f"{stamp} is {-age_ns / NANOSECONDS:.3f} s ahead; stamps are simulated time (use_sim_time)"
            )
        observed_ns = command.observation_stamp_ns
        if command.stamp_ns < self._not_before_ns or (observed_ns and observed_ns < self._not_before_ns):
            return "earlier_episode", "it was decided on the episode before the reset"
        return None

    def _malformation(self, command: MotionCommand) -> tuple[str, str] | None:
        if command.frame != self._frame:
            return "frame", f"frame_id is '{command.frame}', expected '{self._frame}'"
        if not np.isfinite(command.linear).all() or not np.isfinite(command.angular).all():
            return "not_finite", f"motion is not finite: linear {command.linear}, angular {command.angular}"
        if command.kind != "pose" and np.any(command.angular):
            return "rotation", f"angular motion {command.angular} is asked for, but this arm's wrist does not turn"
        if command.kind != "twist" and command.period_ns <= 0:
            return "period", f"period is {command.period_ns} ns; a {command.kind} needs the time it is spread over"
        return None

    def answered(self, tick_ns: int) -> bool:
        """Whether a command for a tick is there that was decided on an observation; for a lock-step wait.

        The observation may be an older one, as of a policy that follows a chunk for several steps. A command of zero
        motion, which is decided on none, is no answer.
        """
        candidates = [*self._pending, *([self._active] if self._active else [])]
        return any(
            c.stamp_ns >= tick_ns and (c.observation_stamp_ns is None or 0 < c.observation_stamp_ns <= tick_ns)
            for c in candidates
        )

    def motion_at(self, step_start_ns: int, set_point: NDArray[np.float64]) -> Motion:
        """Return the motion of the step that begins at `step_start_ns`.

        Args:
            step_start_ns: Not before the last call's.
            set_point: Where the end effector has been told to be, m [3]; a pose is reached from there.
        """
        with self.changed:
            self._activate(step_start_ns)
            command = self._active
            if command is None or step_start_ns - command.stamp_ns >= self._timeout_ns:
                return Motion(np.zeros(3), self._gripper, halted=True)
            return Motion(self._velocity(command, step_start_ns, set_point), self._gripper, halted=False)

    def _activate(self, now_ns: int) -> None:
        """Make the newest command that is due the active one."""
        due = [c for c in self._pending if c.stamp_ns <= now_ns]
        if not due:
            return
        self._pending = [c for c in self._pending if c.stamp_ns > now_ns]
        newest = max(reversed(due), key=lambda c: c.stamp_ns)  # of equal stamps the one that came last
        if self._active is not None and newest.stamp_ns < self._active.stamp_ns:
            return  # overtaken on the way
        self._active, self._begun_ns = newest, now_ns
        if newest.gripper is not None:
            self._gripper = float(np.clip(newest.gripper, -1.0, 1.0))

    def _velocity(self, command: MotionCommand, now_ns: int, set_point: NDArray[np.float64]) -> NDArray[np.float64]:
        if command.kind == "twist":
            return command.linear
        left_ns = self._begun_ns + command.period_ns - now_ns
        if command.kind == "displacement":
            share = min(1.0, max(0.0, left_ns / self._step_ns))  # a period need not be a whole number of steps
            return command.linear * (share * NANOSECONDS / command.period_ns)
        return (command.linear - set_point) * (NANOSECONDS / max(left_ns, self._step_ns))

    def counts(self) -> Mapping[str, int]:
        """Return accepted and refused commands so far, by reason."""
        with self.changed:
            return {"accepted": self.accepted, **self.refused}
